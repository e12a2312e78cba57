"""Counts visits twice: in the cache for ever, in the database one row each."""
import http.server
import os
import socket

import psycopg2
import redis

database = psycopg2.connect(os.environ["DATABASE"])
database.autocommit = True
cache = redis.Redis(os.environ["CACHE"])


class Visits(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        with database.cursor() as cursor:
            cursor.execute("INSERT INTO visit (host) VALUES (%s)", (socket.gethostname(),))
            cursor.execute("SELECT count(*) FROM visit")
            (rows,) = cursor.fetchone()
        text = f"{cache.incr('visits')} counted, {rows} rows\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


http.server.ThreadingHTTPServer(("", 8000), Visits).serve_forever()
