# Every target does its own set-up; see scripts/setup.sh.
PYTHON_HERE := .venv/bin/python

.PHONY: help demo test lint bench browser-test colab-test setup clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

demo: setup  ## train a LoRA on the embedded world, without GPU, hub or account
	$(PYTHON_HERE) -m lorakit demo

test: setup  ## run the tests
	$(PYTHON_HERE) -m pytest -m "not alone"
	$(PYTHON_HERE) -m pytest -n 0 -m alone

lint: setup  ## check style and types
	$(PYTHON_HERE) -m ruff check
	$(PYTHON_HERE) -m ruff format --check
	$(PYTHON_HERE) -m mypy

bench: setup  ## time import, planning and training
	$(PYTHON_HERE) scripts/bench.py

browser-test: setup  ## drive both notebooks in a real browser (needs chromium)
	scripts/browser_test.sh

colab-test: setup  ## run the tests among the packages of Colab's newest and oldest image
	scripts/colab_test.sh 2026.08
	scripts/colab_test.sh 2025.07

setup:  ## make .venv, or complete it
	@scripts/setup.sh

clean:  ## remove environments and caches; what was trained stays
	rm -rf .venv .venv-colab-* .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
