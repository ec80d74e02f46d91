# SPDX-License-Identifier: BSD-3-Clause
"""An OpenML server on this machine that replays a small data set."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class OpenML:
    """A server that answers as OpenML's API does, for one data set.

    Parameters
    ----------
    data_id, name : int, str
        OpenML's number and name of the data set.
    columns : sequence of str
        Names of the feature columns, as OpenML writes them. The label's is "class".
    labels : sequence of str
        The values of the label.
    lines : iterable of str
        The rows as text: numbers, separated by commas, the label last.
    """

    def __init__(self, data_id, name, columns, labels, lines):
        lines = list(lines)
        names = [*columns, "class"]
        # Names with "%" are quoted, as ARFF demands.
        arff = f"@RELATION {name}\n"
        arff += "".join(f"@ATTRIBUTE '{column}' REAL\n" for column in columns)
        arff += f"@ATTRIBUTE class {{{','.join(labels)}}}\n@DATA\n"
        arff += "".join(line + "\n" for line in lines)
        self.data_id, self.file = data_id, f"data/v1/download/{data_id}/{name}.arff"
        self.files = {self.file: arff.encode()}
        self.requests = []
        self.status, self.delay = 200, 0.0
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                path = self.path.lstrip("/")
                owner.requests.append(path)
                time.sleep(owner.delay)
                body = owner.files.get(path)
                status = 404 if body is None else owner.status
                self.send_response(status)
                self.end_headers()
                if status == 200:
                    self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # A client that gives up waiting breaks the pipe; no traceback into the test's output.
        self.server.handle_error = lambda request, address: None
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        features = [
            {
                "index": str(i),
                "name": column,
                "data_type": "nominal" if column == "class" else "numeric",
                "is_target": "true" if column == "class" else "false",
                "is_ignore": "false",
                "is_row_identifier": "false",
                "number_of_missing_values": "0",
                **({"nominal_value": list(labels)} if column == "class" else {}),
            }
            for i, column in enumerate(names)
        ]
        description = {
            "id": str(data_id),
            "name": name,
            "version": "1",
            "status": "active",
            "format": "ARFF",
            "description": "a small copy",
            "file_id": f"{data_id}/{name}.arff",
            "url": self.url + self.file,
            "md5_checksum": hashlib.md5(arff.encode()).hexdigest(),
            "default_target_attribute": "class",
        }
        qualities = [{"name": "NumberOfInstances", "value": f"{len(lines)}.0"}]
        for path, content in {
            f"{data_id}": {"data_set_description": description},
            f"features/{data_id}": {"data_features": {"feature": features}},
            f"qualities/{data_id}": {"data_qualities": {"quality": qualities}},
        }.items():
            self.files["api/v1/json/data/" + path] = json.dumps(content).encode()

    def start(self):
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        ).start()
        return self

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
