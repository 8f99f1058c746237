"""The server: FastAPI on uvicorn; one file per dialect. Only here are status codes known."""
