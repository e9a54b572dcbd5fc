"""What a user's type checker sees in Keras: mypy runs on this file, strictly, and nothing runs the code."""

from typing import assert_type

import keras

import neuroactivity as na
import neuroactivity_tensorflow


def train(model: keras.Model) -> na.ActivityReport | None:
    optimizer = neuroactivity_tensorflow.ReGraMa(keras.optimizers.Adam(1e-3), model, every=100, max_fraction=0)
    assert_type(neuroactivity_tensorflow.layout_of(model, None), na.Layout)
    assert_type(optimizer.last_report, na.ActivityReport | None)
    return optimizer.last_report
