"""
A sender: it makes one attempt at a message, over the standard library's HTTP client.
"""

import http.client

from wirewitness.outbox import Answer, Message


CONNECTIONS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}


class PlainSender:
    """
    Opens one connection per attempt, so that neither threads nor forked children share anything.
    """

    threads = 4

    def send(self, message: Message) -> Answer:
        request = message.request
        host, port = request.destination.host, request.destination.port
        connection = CONNECTIONS[request.destination.scheme](host, port, timeout=10)
        try:
            own_host = any(name.lower() == "host" for name, _ in request.fields)
            connection.putrequest(request.method, request.target, skip_host=own_host, skip_accept_encoding=True)
            for name, value in request.fields:
                connection.putheader(name, value)
            if request.method not in {"GET", "HEAD"}:
                connection.putheader("Content-Length", str(len(message.content)))
            connection.endheaders(message.content or None)
            response = connection.getresponse()
            return Answer(response.status, response.headers["Retry-After"])
        finally:
            connection.close()
