# Every command of the project. CI calls these and nothing else.
#
# PYTHON   the interpreter that .venv is made from (3.11 or newer)
# ARGS     more arguments for the command, such as ARGS="-k msat" for `make test`

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$p" && break; done)

.DELETE_ON_ERROR:
.PHONY: help demo test check lint types imports examples bench docs venv

help:
	@echo "make demo    convert a small network and see what it costs; results go to demo-output/"
	@echo "make test    run the tests (also those on real data where RHEOBASE_DATA names its folder)"
	@echo "make check   style, types, import order, and the examples in the documentation"
	@echo "make bench   measure, and write benchmarks/results/"
	@echo "make docs    write the tables in the documentation from benchmarks/results/"
	@echo "Each makes .venv first where it is missing; PYTHON=/path/to/python3 names the interpreter."

demo: .venv/.demo-installed
	.venv/bin/rheobase demo $(ARGS)

test: .venv/.dev-installed
	$(if $(RHEOBASE_DATA),,@echo "RHEOBASE_DATA is not set: running the fast tests only.")
	.venv/bin/python -m pytest $(if $(RHEOBASE_DATA),,-m "not slow") $(ARGS)

check: lint types imports examples

lint: .venv/.dev-installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: .venv/.dev-installed
	.venv/bin/python -m mypy

imports: .venv/.dev-installed
	.venv/bin/lint-imports --no-logo

examples: .venv/.dev-installed
	.venv/bin/python -m pytest --doctest-modules rheobase $(wildcard README.md docs/*.md)

bench: .venv/.dev-installed
	.venv/bin/python -m benchmarks $(ARGS)

docs: .venv/.dev-installed
	.venv/bin/python -m benchmarks.tables $(ARGS)
	.venv/bin/python -m benchmarks.figures $(ARGS)

venv: .venv/.dev-installed

# A .venv without a working pip is an interrupted or moved one, and is made anew.
# A stamp appears only after a complete installation, with the time at which that began.
.venv/.demo-installed: pyproject.toml constraints.txt
	@$(call install,demo)

.venv/.dev-installed: pyproject.toml constraints.txt
	@$(call install,dev)
	@touch -r $@ .venv/.demo-installed

define install
set -e; \
if ! .venv/bin/pip --version >/dev/null 2>&1; then \
	if [ -z "$(PYTHON)" ]; then \
		echo "Rheobase needs Python 3.11 or newer, and none was found. Name one: make PYTHON=/path/to/python3 ..."; \
		exit 1; \
	fi; \
	echo "Making .venv from $$($(PYTHON) --version)."; \
	"$(PYTHON)" -m venv --clear .venv; \
fi; \
echo "Installing Rheobase, PyTorch and the rest of .[$(1)] into .venv. This happens once and takes a minute or more."; \
touch .venv/.installing; \
.venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(1)]"; \
mv .venv/.installing $@
endef
