"""Imported for what it does, before anything of transformers that looks at images: a torchvision that cannot be
imported is as if it were not installed.

The usual case is the wheel for GPUs beside a torch for CPUs ("operator torchvision::nms does not exist"). Nothing here
needs torchvision, but transformers imports it wherever it finds it, and fails with it.
"""

import importlib
import importlib.util
import sys
import warnings

from transformers.utils import is_torchvision_available

if importlib.util.find_spec("torchvision") is not None:
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        for name in [each for each in sys.modules if each.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        sys.modules["torchvision"] = None  # type: ignore[assignment]  # what makes it unfindable, for all that ask
        is_torchvision_available.cache_clear()
        warnings.warn(f"torchvision is installed but cannot be imported, and is not used: {error}", stacklevel=1)
