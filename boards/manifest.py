"""What every board freezes: the start, the core and the runtime."""

# ruff: noqa: F821 - makemanifest.py gives these names
package("petiole_boot", files=("__init__.py",), base_path="../firmware", opt=3)
package("petiole", base_path="../firmware", opt=3)
package("petiole_node", base_path="../firmware", opt=3)
