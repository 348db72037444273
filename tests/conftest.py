import pytest

# of timm's own tests, which tests/test_timm_suite.py runs
MARKERS = ["base", "forward", "backward", "cfg", "cfg_nonstd", "torchscript", "features", "fxforward", "fxbackward"]


def pytest_configure(config: pytest.Config) -> None:
    for name in MARKERS:
        config.addinivalue_line("markers", f"{name}: one of timm's own tests")
