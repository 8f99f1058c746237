lock:
	uv pip compile pyproject.toml --extra all --group dev --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links -q -o requirements.lock
