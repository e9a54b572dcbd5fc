"""``python -m neuroactivity.looking``, where the command ``neuroactivity`` is not installed."""

import sys

from neuroactivity.looking.commandline import main

sys.exit(main())
