"""deploy/docs/http.md: the HTTP API, from the OpenAPI document that the receiver serves."""

from tests.reference.tables import table
from worker.web.openapi import document

HEAD = """\
# HTTP

What a receiver and `outlast serve` answer on `RECEIVER_PORT`. `GET /openapi.json` has the same for machines. Errors are
`application/problem+json` (RFC 9457) with a stable `code` and a `hint`. The console at `/console/` is not part of the
API. A worker serves only `/healthz`, `/readyz` and `/metrics`, on `METRICS_PORT`.

"""
PROOF = {"api_token": "`Authorization: Bearer <API_TOKEN>`", "webhook_secret": "secret or signature"}


def page() -> str:
    found = document()
    schemas = found["components"]["schemas"]
    routes, bodies = [], {}
    for path, methods in found["paths"].items():
        for method, route in methods.items():
            proof = " or ".join(PROOF[name] for each in route["security"] for name in each)
            routes.append(
                (f"`{method.upper()} {path}`", route["summary"], proof, ", ".join(sorted(route["responses"])))
            )
            if body := _reference(route.get("requestBody", {}).get("content", {}).get("application/json", {})):
                bodies.setdefault(body, []).append(f"`{method.upper()} {path}`")
    parts = [HEAD, table(("route", "does", "proof", "answers"), routes), "\n## Bodies\n"]
    for name, users in bodies.items():
        if not (fields := list(_fields(schemas[name]))):
            continue
        parts += [
            f"\n### {name}\n\nSent with {', '.join(users)}.\n\n",
            table(("field", "type", "default", "meaning"), fields),
        ]
    return "".join(parts)


def _reference(content):
    return content.get("schema", {}).get("$ref", "").rpartition("/")[2]


def _fields(schema):
    required = set(schema.get("required", ()))
    for name, field in schema.get("properties", {}).items():
        default = (
            "required"
            if name in required
            else f"`{field['default']}`"
            if field.get("default") not in (None, "")
            else ""
        )
        yield f"`{name}`", _type(field), default, field.get("description", "")


def _type(field):
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(each) for each in field["anyOf"] if each.get("type") != "null"))
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2]
    if field.get("type") == "array":
        return f"array of {_type(field.get('items', {}))}"
    return " ".join(filter(None, [field.get("type", "object"), field.get("format") and f"({field['format']})"]))
