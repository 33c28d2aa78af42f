"The least that uvicorn can serve: an application that says the same few hundred bytes to everybody. A yardstick."

BODY = b'{"mean":2.5,"note":"' + b"x" * 270 + b'"}'  # As long as an answer of the service
_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": BODY})
