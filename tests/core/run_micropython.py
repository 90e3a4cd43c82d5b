"""Run test files on the MicroPython VM: `micropython run_micropython.py tests/core/test_*.py`.

Prints one line for each test and `N passed, N failed`; the exit code is 1 when one failed or none was found.
"""

import sys

ROOT = __file__.rsplit("/", 3)[0] if __file__.count("/") > 2 else "."
sys.path[:0] = [ROOT, ROOT + "/firmware"]


def run(path):
    stem = path.rsplit("/", 1)[-1].rsplit(".", 1)[0]
    name = "tests.core." + stem
    __import__(name)
    module = sys.modules[name]
    passed = failed = 0
    for test in sorted(dir(module)):
        if not test.startswith("test_"):
            continue
        try:
            getattr(module, test)()
        except Exception as error:
            failed += 1
            print("FAILED " + stem + "." + test)
            sys.print_exception(error)
        else:
            passed += 1
            print("passed " + stem + "." + test)
    return passed, failed


def main():
    passed = failed = 0
    for path in sys.argv[1:]:
        one = run(path)
        passed += one[0]
        failed += one[1]
    print(str(passed) + " passed, " + str(failed) + " failed")
    sys.exit(1 if failed or not passed else 0)


main()
