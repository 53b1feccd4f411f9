"""The engine's fixtures, for the fault tests."""
import importlib.util
import pathlib
import sys

ENGINE = pathlib.Path(__file__).resolve().parent.parent / "engine"
sys.path[:0] = [str(ENGINE)]
spec = importlib.util.spec_from_file_location("engine_conftest",
                                              ENGINE / "conftest.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
start_engine = module.start_engine
start_lab = module.start_lab
