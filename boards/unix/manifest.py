"""What is frozen into an own build of the unix port: `make -C ports/unix FROZEN_MANIFEST=<this file>`."""

# ruff: noqa: F821 - makemanifest.py gives these names
package("petiole", base_path="../../firmware", opt=2)
package("petiole_node", base_path="../../firmware", opt=2)
