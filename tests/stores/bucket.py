"""A bucket on moto's S3 server, which counts what it sends, and fails as it is told."""

import threading
from importlib.util import find_spec

import pytest

missing = [name for name in ("obstore", "moto", "boto3", "zarr") if find_spec(name) is None]
needs_bucket = pytest.mark.skipif(bool(missing), reason="needs roicli[stores,zarr], moto[server] and boto3")

if not missing:  # or each fork would load them, in half a second
    import obstore  # noqa: F401
    import zarr  # noqa: F401


class Bucket:
    """The bucket `maps`; `fault` gets each request and may return an answer of its own: (status, body)."""

    def __init__(self):
        import boto3
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.sent, self.served = [], DomainDispatcherApplication(create_backend_app)
        self.fault = lambda environment: None
        self.web = make_server("127.0.0.1", 0, self.answer, threaded=True)
        self.web.log = lambda *_: None
        threading.Thread(target=self.web.serve_forever, args=(0.01,), daemon=True).start()
        self.where = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.web.server_port}", "AWS_ACCESS_KEY_ID": "key"}
        self.where |= {"AWS_SECRET_ACCESS_KEY": "SECRET", "AWS_REGION": "us-east-1"}
        how = {"aws_access_key_id": "key", "aws_secret_access_key": "SECRET", "region_name": "us-east-1"}
        self.asking = boto3.client("s3", endpoint_url=self.where["AWS_ENDPOINT_URL"], **how)
        self.asking.create_bucket(Bucket="maps")

    def answer(self, environment, start):
        if (answer := self.fault(environment)) is not None:
            status, body = answer
            environment["wsgi.input"].read(int(environment.get("CONTENT_LENGTH") or 0))
            start(status, [("Content-Length", str(len(body)))])
            yield body
            return
        for part in self.served(environment, start):
            self.sent.append(len(part))
            yield part

    def put(self, key, data):
        self.asking.put_object(Bucket="maps", Key=key, Body=data)

    def content(self, prefix=""):
        """Return all objects whose keys begin so, by what follows."""
        found = self.asking.list_objects_v2(Bucket="maps", Prefix=prefix).get("Contents", [])
        keys = [one["Key"] for one in found]
        return {k.removeprefix(prefix): self.asking.get_object(Bucket="maps", Key=k)["Body"].read() for k in keys}

    def empty(self):
        for key in self.content():
            self.asking.delete_object(Bucket="maps", Key=key)


@pytest.fixture(scope="module")
def bucket():
    serving = Bucket()
    yield serving
    serving.web.shutdown()
