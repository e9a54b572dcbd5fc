"""The two wrappers in each framework, as a test that knows no framework sees them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest

from tests.adapters.contract.jax_driver import JaxDriver
from tests.adapters.contract.tensorflow_driver import TensorFlowDriver
from tests.adapters.contract.torch_driver import TorchDriver

DRIVERS: dict[str, Any] = {"torch": TorchDriver, "jax": JaxDriver, "tensorflow": TensorFlowDriver}


class Case(NamedTuple):
    """A wrapper in a framework.

    Attributes:
        driver: The framework's driver.
        method: ``regrama`` or ``redo``.
        plain: Makes the network with the plain optimizer.
        wrapped: Makes the network with the wrapped optimizer, measured at every step unless ``every`` says otherwise.
    """

    driver: Any
    method: str
    plain: Callable[..., Any]
    wrapped: Callable[..., Any]


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> Any:
    """A framework's driver, where ReGraMa and ReDo do not differ."""
    return DRIVERS[request.param]


@pytest.fixture(params=[f"{framework}-{method}" for framework in DRIVERS for method in ("regrama", "redo")])
def case(request: pytest.FixtureRequest) -> Case:
    """A wrapper in a framework."""
    framework, method = request.param.split("-")
    driver = DRIVERS[framework]
    return Case(driver, method, driver, partial(driver, method, every=1, tau=0.0))
