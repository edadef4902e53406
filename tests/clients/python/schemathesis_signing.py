"""What schemathesis loads (SCHEMATHESIS_HOOKS): every request it makes is signed with the development app's secret."""

import hashlib
import hmac
import time
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import requests.auth
import schemathesis

KEY, SECRET = "app-key", "app-secret"


class Signature(requests.auth.AuthBase):
    def __call__(self, request):
        parts = urlsplit(request.url)
        body = request.body or b""
        body = body.encode() if isinstance(body, str) else body
        pairs = {name.lower(): value for name, value in parse_qsl(parts.query, keep_blank_values=True)}
        pairs |= {"auth_key": KEY, "auth_timestamp": str(int(time.time())), "auth_version": "1.0"}
        if body:
            pairs["body_md5"] = hashlib.md5(body).hexdigest()
        query = "&".join(f"{name}={value}" for name, value in sorted(pairs.items()))
        text = f"{request.method}\n{parts.path.removesuffix('/')}\n{query}"
        pairs["auth_signature"] = hmac.new(SECRET.encode(), text.encode(), hashlib.sha256).hexdigest()
        query = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs.items())
        request.url = urlunsplit(parts._replace(query=query))
        return request


schemathesis.auth.set_from_requests(Signature())
