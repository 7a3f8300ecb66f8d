"""A view that logs one event for each request."""

from __future__ import annotations

import logging
import time
import uuid

from django.http import HttpRequest, JsonResponse

logger = logging.getLogger(__name__)


def hello(request: HttpRequest) -> JsonResponse:
    """Answer with the request's id, and log it."""
    started = time.perf_counter()
    request_id = request.headers.get("X-Request-ID") or str(uuid.uuid4())
    name = request.GET.get("name", "world")
    response = JsonResponse({"request_id": request_id, "hello": name})
    event = {
        "request_id": request_id,
        "path": request.path,
        "status": response.status_code,
        "ms": round((time.perf_counter() - started) * 1000, 3),
    }
    logger.info("request answered", extra=event)
    return response
