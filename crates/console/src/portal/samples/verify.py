import base64, hashlib, hmac, time


# `body` is the request's body as bytes, `headers` its headers in lower case.
def verify(secret, body, headers):
    id, timestamp = headers["webhook-id"], headers["webhook-timestamp"]
    if not abs(time.time() - float(timestamp)) <= 300:
        return False
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    signed = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(signed).decode()
    given = headers["webhook-signature"].split(" ")
    return any(hmac.compare_digest(signature.encode(), expected.encode()) for signature in given)
