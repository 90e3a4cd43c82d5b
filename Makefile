# Everything runs in .venv, which `make setup` makes; no target needs more than make, python3 (3.11 or newer) and
# python3-venv.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamp

.DEFAULT_GOAL := help
.PHONY: help setup test lint types portability firmware flash flash-emulated deb vectors docs bench soak vm32 test-vm32 demo gateway clean

help: ## Show this help
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(STAMP) ## Make .venv with the project and all development tools (again when pyproject.toml changed)

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "error: $(PYTHON) is missing or older than 3.11" >&2; \
		echo "hint: apt install python3, or name another: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $(PYTHON) cannot make virtual environments" >&2; \
		echo "hint: apt install python3-venv" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' || { \
		echo "error: pip could not install what petiole needs (its words are above)" >&2; \
		echo "hint: check the network and the space on the disk, then run make setup again" >&2; exit 1; }
	@touch $@

# Tests wait for most of their time, so more of them run side by side than a small machine has cores. One worker has
# all tests of a file: a server that they share is started once. WORKERS=0: all in one process, for a debugger.
WORKERS ?= 3

test: $(STAMP) ## Run all tests but the soak, or some: make test TESTS=tests/core [WORKERS=0]
	$(BIN)/python -m pytest -m "not soak" -n $(WORKERS) --dist loadfile $(TESTS)

# What runs the firmware; not the files in which nothing of a node does.
VM32_TESTS := tests/test_core_on_micropython.py tests/node tests/flash/test_slots.py tests/tools/test_firmware_build.py \
	tests/system/test_sleepy_nodes.py tests/system/test_gateway_clock.py tests/system/test_wake_policy.py \
	tests/system/test_cli_mailbox.py tests/system/test_cli_gateway.py tests/system/test_ports.py

vm32: $(STAMP) ## Build MicroPython as boards have it (32-bit words, single floats) in build/vm32, from Debian's source
	@$(BIN)/python -m tests.vm32

test-vm32: vm32 ## Run on it the tests of the core, of nodes and of systems with nodes, or some: TESTS=tests/node
	MICROPYTHON="$(CURDIR)/build/vm32/micropython" $(BIN)/python -m pytest -m "not soak" -n $(WORKERS) \
		--dist loadfile $(or $(TESTS),$(VM32_TESTS))

lint: $(STAMP) ## Check style and common mistakes with ruff
	$(BIN)/ruff check .

types: $(STAMP) ## Check types with mypy, strict
	$(BIN)/mypy firmware gateway tools

portability: $(STAMP) ## Check that the firmware keeps to what all three runtimes understand
	$(BIN)/python -m petiole_tools.portability

firmware: $(STAMP) ## Build the firmware for boards in build/firmware
	$(BIN)/python -m petiole_tools.firmware_build build/firmware

deb: $(STAMP) ## Build the Debian package for this architecture in build
	$(BIN)/python -m petiole_tools.debian_package build

flash: $(STAMP) ## Make a node of a board on USB: make flash BOARD=RPI_PICO_W NAME=greenhouse-1 [FLASH="--wifi HOME"]
	$(BIN)/petiole flash --board "$(BOARD)" $(if $(NAME),--name "$(NAME)") $(if $(PORT),--port "$(PORT)") $(FLASH)

flash-emulated: $(STAMP) ## The same in an emulator, on MicroPython's own image: make flash-emulated UF2=RPI_PICO-….uf2 FROZEN_UF2=…
	@$(BIN)/python -c 'import rp2040py' 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[emulator]'
	PETIOLE_UF2="$(UF2)" PETIOLE_FROZEN_UF2="$(FROZEN_UF2)" $(BIN)/python -m pytest tests/emulated

vectors: $(STAMP) ## Write the generated test vectors anew (published ones are never written)
	$(BIN)/python -m petiole_tools.make_vectors tests/vectors

docs: $(STAMP) ## Write anew what in docs/ and boards/ is made from the program
	$(BIN)/python -m petiole_tools.make_commands docs/commands.md
	$(BIN)/python -m petiole_tools.make_settings docs/settings.md
	$(BIN)/python -m petiole_tools.boards

bench: $(STAMP) ## Measure sizes, times and memory against the budgets
	$(BIN)/python -m tests.bench

soak: $(STAMP) ## Run the long tests
	$(BIN)/python -m pytest -m soak

demo: $(STAMP) ## Show a whole system on this machine: hub, leaf, gateway and simulated nodes
	$(BIN)/petiole demo

gateway: $(STAMP) ## Run a gateway with the default settings
	$(BIN)/petiole gateway run

clean: ## Remove caches and build products (.venv stays: rm -r .venv)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find firmware gateway tools tests \( -name __pycache__ -o -name '*.mpy' \) -prune -exec rm -rf {} +
