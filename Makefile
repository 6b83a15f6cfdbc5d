# Targets that need an environment build it first, in .venv, from requirements.lock.

PYTHON ?= python3
CORES ?= all

UV_VERSION := 0.13.9
BIN := .venv/bin

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test bench calibrate lint docs lock clean FORCE

help:  ## list these targets
	@echo "make TARGET [PYTHON=python3.12] [CORES=4], where TARGET is one of"
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  %-10s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/built  ## run the default study and write its report
	-@$(BIN)/headstart plan config/config.yaml --cores $(CORES)
	$(BIN)/snakemake --cores $(CORES)
	@echo
	@echo "The report: $$(ls -t results/*/report.html | head -n 1)"

test: .venv/built  ## run the tests; ARGS="-m slow" runs the slow ones
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

bench: .venv/bench  ## measure speed beside others (15 minutes); ARGS="--only ssl-small"
	$(BIN)/python benchmarks/run.py $(ARGS)

calibrate: .venv/built  ## show how often verdicts are wrong (half an hour); ARGS=--quick takes a minute
	$(BIN)/python calibration/run.py $(ARGS)

lint: .venv/built  ## check style, the workflow and the generated documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/python tests/lint_workflow.py
	$(BIN)/headstart docs --check

docs: .venv/built  ## regenerate config/README.md, config/schema.json, docs/corpora.md
	$(BIN)/headstart docs

lock: .venv/built  ## resolve pyproject.toml anew; ARGS=--upgrade takes the newest versions
	$(BIN)/uv --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --generate-hashes \
	    --no-emit-index-url --custom-compile-command "make lock" --extra dev \
	    pyproject.toml --output-file requirements.lock $(ARGS)
	@# The additional packages of `make bench`, resolved with the versions above as constraints.
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"] \
	    ["optional-dependencies"]["bench"], sep="\n")' | \
	    $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	    --no-emit-index-url --custom-compile-command "make lock" --constraints requirements.lock \
	    - --output-file benchmarks/requirements.lock $(ARGS)

clean:  ## remove the environment and the caches; results and data stay
	rm -rf .venv .pytest_cache .ruff_cache build src/*.egg-info
	find benchmarks src tests workflow -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# The environment. The file .venv/built is written last and contains the path of the checkout, because an
# environment that is moved stops working. Without the file, or with another path in it, .venv is built again.
ifneq ($(shell $(BIN)/python -c 'print(open(".venv/built").read().strip())' 2>/dev/null),$(CURDIR))
.venv/built: FORCE
endif

.venv/built: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "Headstart needs Python 3.11 or newer; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)"; \
	    echo "Name another one, such as: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; } >&2
	@# The base executable is used because python3 may be the one in an active .venv, which is removed here.
	@echo "Building the environment in .venv (about 5 GB; it takes from half a minute to some minutes)"
	@base=$$($(PYTHON) -c 'import sys; print(sys._base_executable)') && rm -rf .venv && "$$base" -m venv .venv
	@# ctc-beam-decoder has no wheel for a glibc before 2.35. Without it, texts are decoded by our own beam search.
	@old=$$($(BIN)/python -c 'import platform; name, version = platform.libc_ver(); \
	    print(int(name == "glibc" and [*map(int, version.split(".")[:2])] < [2, 35]))') && \
	    awk -v old="$$old" '/^[a-z]/ {skip = old && /^ctc-beam-decoder==/} !skip' requirements.lock > .venv/requirements.lock
	@# uv takes seconds where pip takes minutes; pip is used where uv does not work. Bytecode is compiled here, as pip
	@# does, since otherwise each job compiles what it imports if it may not write to the environment (3 s of 6 s).
	@{ $(BIN)/python -m pip install --quiet uv==$(UV_VERSION) && \
	    $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r .venv/requirements.lock; } || \
	    $(BIN)/python -m pip install --quiet --require-hashes -r .venv/requirements.lock
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@echo '$(CURDIR)' > $@

# The additional packages of the benchmarks, in the same .venv and with a file that marks them as installed.
.venv/bench: .venv/built benchmarks/requirements.lock
	@{ $(BIN)/uv --version >/dev/null 2>&1 && $(BIN)/uv pip install --quiet --python $(BIN)/python \
	    --require-hashes -r benchmarks/requirements.lock; } || \
	    $(BIN)/python -m pip install --quiet --require-hashes -r benchmarks/requirements.lock
	@touch $@
