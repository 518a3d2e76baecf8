"""Holds raw AWS responses against botocore's own models of the services.

botocore's parsers are lenient: they skip what they do not know and leave out what is missing. These checks are not.
check() walks the body as it came over the wire (XML, JSON or CBOR) beside the operation's output shape and reports
whatever the model does not have, values of a wrong type, enumerations with unknown values, numbers and lengths out of
range, and required members that are missing.
"""

import base64
import binascii
import datetime
import io
import json
import re
import xml.etree.ElementTree as ElementTree

from botocore.parsers import RpcV2CBORParser

TIMESTAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$")

# Codes that every service may answer with, which models do not list.
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html and each service's "Common Errors".
COMMON_ERRORS = {
    "AccessDenied", "AccessDeniedException", "ExpiredToken", "ExpiredTokenException", "IncompleteSignature",
    "IncompleteSignatureException", "InternalFailure", "InvalidAction", "InvalidClientTokenId", "InvalidParameterCombination",
    "InvalidParameterValue", "MalformedQueryString", "MissingAction", "MissingAuthenticationToken",
    "MissingAuthenticationTokenException", "MissingParameter", "OptInRequired", "RequestLimitExceeded", "ServiceUnavailable",
    "Throttling", "ThrottlingException", "UnknownOperationException", "UnrecognizedClientException", "ValidationError",
    "ValidationException", "SerializationException", "UnknownParameter",
}

# Codes that a service is known to answer with, by its documentation or its other clients' reports, and that its model does
# not list.
UNMODELLED_ERRORS = {
    "elasticbeanstalk": {"MissingRequiredParameter", "ConfigurationValidationException"},
    "imagebuilder": {"ResourceNotFoundException"},
}


class Problems(list):
    """The problems of one response, each with the path at which it was found."""

    def add(self, path, message):
        self.append(f"{path}: {message}")


def check(operation_model, status, headers, body):
    """Returns the problems of one response, as strings; an empty list for a response that fits its model."""
    problems = Problems()
    protocol = operation_model.service_model.resolved_protocol
    name = operation_model.name
    if status >= 300:
        _check_error(problems, operation_model, protocol, status, headers, body)
        return problems
    shape = operation_model.output_shape
    if protocol in ("ec2", "query"):
        _check_xml_response(problems, name, shape, protocol, headers, body)
    elif protocol == "json":
        if not _media(headers).startswith("application/x-amz-json-"):
            problems.add(name, f"content type {_media(headers)!r} is not JSON's")
        _check_tree(problems, name, shape, json.loads(body) if body else {}, protocol)
    elif protocol == "rest-json":
        if _media(headers) != "application/json":
            problems.add(name, f"content type {_media(headers)!r} is not application/json")
        _check_tree(problems, name, shape, json.loads(body) if body else {}, protocol)
    elif protocol == "rest-xml":
        _check_rest_xml(problems, name, shape, headers, body)
        return problems
    elif protocol == "smithy-rpc-v2-cbor":
        if headers.get("smithy-protocol") != "rpc-v2-cbor":
            problems.add(name, "the header Smithy-Protocol is missing")
        _check_tree(problems, name, shape, _cbor(operation_model, body), protocol)
    else:
        problems.add(name, f"no check is written for protocol {protocol}")
    if not headers.get("x-amzn-requestid"):
        problems.add(name, "the header x-amzn-requestid is missing")
    return problems


def _media(headers):
    return (headers.get("content-type") or "").split(";")[0].strip()


def _cbor(operation_model, body):
    if not body:
        return {}
    parser = RpcV2CBORParser()
    stream = io.BufferedReader(io.BytesIO(body))
    tree = parser.parse_data_item(stream)
    if stream.read(1):
        raise ValueError(f"{operation_model.name}: bytes are left behind the CBOR document")
    return tree


# --- XML ---------------------------------------------------------------------------------------------------------------


def _check_xml_response(problems, name, shape, protocol, headers, body):
    if _media(headers) != "text/xml":
        problems.add(name, f"content type {_media(headers)!r} is not text/xml")
    root = ElementTree.fromstring(body)
    if _local(root) != name + "Response":
        problems.add(name, f"the root is {_local(root)}, not {name}Response")
    if not root.tag.startswith("{http"):
        problems.add(name, "the root has no namespace")
    children = list(root)
    if protocol == "ec2":
        ids = [c for c in children if _local(c) == "requestId"]
        if len(ids) != 1 or not (ids[0].text or "").strip():
            problems.add(name, "no requestId")
        rest = [c for c in children if _local(c) != "requestId"]
        if shape is None and [(_local(c), c.text) for c in rest] == [("return", "true")]:
            return  # EC2 answers so where the model has no output (API reference, "return": true if the request succeeds)
        _check_structure(problems, name, shape, rest, protocol)
        return
    metadata = [c for c in children if _local(c) == "ResponseMetadata"]
    if len(metadata) != 1 or not (metadata[0].findtext("{*}RequestId") or "").strip():
        problems.add(name, "no ResponseMetadata with a RequestId")
    rest = [c for c in children if _local(c) != "ResponseMetadata"]
    if shape is None:
        for c in rest:
            problems.add(name, f"{_local(c)} in a response without output")
        return
    wrapper = shape.serialization.get("resultWrapper")
    if wrapper is None:
        _check_structure(problems, name, shape, rest, protocol)
        return
    if [_local(c) for c in rest] != [wrapper]:
        problems.add(name, f"want one {wrapper}, not {[_local(c) for c in rest]}")
        return
    _check_structure(problems, name, shape, list(rest[0]), protocol)


def _check_rest_xml(problems, name, shape, headers, body):
    """S3's: members in headers, and the rest in a payload or in a document whose root may have any name."""
    if not headers.get("x-amz-request-id"):
        problems.add(name, "the header x-amz-request-id is missing")
    in_headers = {s.serialization["name"].lower() for s in shape.members.values() if s.serialization.get("location") == "header"}
    standard = {"connection", "content-length", "content-type", "date", "server", "x-amz-request-id", "x-amz-bucket-region"}
    for header in headers:
        if header.lower() not in in_headers | standard:
            problems.add(name, f"the model of {shape.name} has no header {header}")
    if shape.serialization.get("payload"):
        return
    members = {m: s for m, s in shape.members.items() if not s.serialization.get("location")}
    if not members:
        if body:
            problems.add(name, "a body in a response without one")
        return
    root = ElementTree.fromstring(body)
    if root.tag != "{http://s3.amazonaws.com/doc/2006-03-01/}ListBucketResult":
        problems.add(name, f"the root is {root.tag}")
    _check_structure(problems, name, shape, list(root), "rest-xml")


def _local(element):
    return element.tag.rsplit("}", 1)[-1]


def _check_structure(problems, path, shape, children, protocol):
    if shape is None:
        for c in children:
            problems.add(path, f"{_local(c)} in a response without output")
        return
    by_name = {}
    for c in children:
        by_name.setdefault(_local(c), []).append(c)
    known = {}
    for member, member_shape in shape.members.items():
        known[_xml_name(member, member_shape)] = (member, member_shape)
    for found in by_name:
        if found not in known:
            problems.add(path, f"the model of {shape.name} has no element {found}")
    for name, (member, member_shape) in known.items():
        elements = by_name.get(name, [])
        if not elements:
            if member in shape.required_members and member_shape.type_name not in ("list", "map"):
                problems.add(path, f"the required {name} is missing")
            continue
        here = f"{path}.{name}"
        if member_shape.type_name == "list" and member_shape.serialization.get("flattened"):
            for i, e in enumerate(elements):
                _check_xml(problems, f"{here}[{i}]", member_shape.member, e, protocol)
            continue
        if len(elements) > 1:
            problems.add(here, "given more than once")
        _check_xml(problems, here, member_shape, elements[0], protocol)


def _xml_name(member, shape):
    if shape.type_name == "list" and shape.serialization.get("flattened"):
        return shape.member.serialization.get("name", shape.serialization.get("name", member))
    return shape.serialization.get("name", member)


def _check_xml(problems, path, shape, element, protocol):
    kind = shape.type_name
    if kind == "structure":
        _check_structure(problems, path, shape, list(element), protocol)
    elif kind == "list":
        _check_range(problems, path, shape, len(element))
        item = shape.member.serialization.get("name", "item" if protocol == "ec2" else "member")
        for i, e in enumerate(element):
            if _local(e) != item:
                problems.add(path, f"the list holds {_local(e)}, not {item}")
            _check_xml(problems, f"{path}[{i}]", shape.member, e, protocol)
    elif kind == "map":
        for i, e in enumerate(element):
            key, value = e.find("{*}" + shape.key.serialization.get("name", "key")), e.find(
                "{*}" + shape.value.serialization.get("name", "value"))
            if key is None or value is None:
                problems.add(f"{path}[{i}]", "an entry without key or value")
                continue
            _check_xml(problems, f"{path}[{i}].key", shape.key, key, protocol)
            _check_xml(problems, f"{path}[{key.text}]", shape.value, value, protocol)
    else:
        if len(element):
            problems.add(path, f"elements within a {kind}")
        _check_text(problems, path, shape, element.text or "")


def _check_text(problems, path, shape, text):
    kind = shape.type_name
    if kind in ("string", "character"):
        # AWS writes unset strings as empty elements (<KeyName/> of DescribeLaunchConfigurations), whatever their length.
        if text or shape.enum:
            _check_string(problems, path, shape, text)
    elif kind in ("integer", "long", "short", "byte"):
        if not re.fullmatch(r"-?\d+", text):
            problems.add(path, f"{text!r} is no {kind}")
        else:
            _check_range(problems, path, shape, int(text))
    elif kind in ("float", "double"):
        try:
            float(text)
        except ValueError:
            problems.add(path, f"{text!r} is no {kind}")
    elif kind == "boolean":
        if text not in ("true", "false"):
            problems.add(path, f"{text!r} is no boolean")
    elif kind == "timestamp":
        if not TIMESTAMP.match(text):
            problems.add(path, f"{text!r} is no timestamp of ISO 8601 in UTC")
    elif kind == "blob":
        try:
            base64.b64decode(text, validate=True)
        except binascii.Error:
            problems.add(path, "the blob is not base64")
    else:
        problems.add(path, f"no check is written for type {kind}")


# --- JSON and CBOR -----------------------------------------------------------------------------------------------------


def _check_tree(problems, path, shape, value, protocol):
    if shape is None:
        if value:
            problems.add(path, f"{value!r} in a response without output")
        return
    kind = shape.type_name
    if kind == "structure":
        _check_object(problems, path, shape, value, protocol)
    elif kind == "list":
        if not isinstance(value, list):
            problems.add(path, f"{value!r} is no list")
            return
        _check_range(problems, path, shape, len(value))
        for i, v in enumerate(value):
            _check_tree(problems, f"{path}[{i}]", shape.member, v, protocol)
    elif kind == "map":
        if not isinstance(value, dict):
            problems.add(path, f"{value!r} is no map")
            return
        for k, v in value.items():
            _check_string(problems, f"{path} key", shape.key, k)
            _check_tree(problems, f"{path}[{k}]", shape.value, v, protocol)
    elif kind == "timestamp":
        # CBOR's tag 1 arrives as a datetime; JSON's epoch seconds as a number.
        want = datetime.datetime if protocol == "smithy-rpc-v2-cbor" else (int, float)
        if not isinstance(value, want) or isinstance(value, bool):
            problems.add(path, f"{value!r} is no timestamp")
    elif kind in ("string", "character"):
        _check_string(problems, path, shape, value)
    elif kind == "boolean":
        if not isinstance(value, bool):
            problems.add(path, f"{value!r} is no boolean")
    elif kind in ("integer", "long", "short", "byte"):
        if isinstance(value, bool) or not isinstance(value, int):
            problems.add(path, f"{value!r} is no {kind}")
        else:
            _check_range(problems, path, shape, value)
    elif kind in ("float", "double"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            problems.add(path, f"{value!r} is no {kind}")
    else:
        problems.add(path, f"no check is written for type {kind}")


def _check_object(problems, path, shape, value, protocol):
    if not isinstance(value, dict):
        problems.add(path, f"{value!r} is no structure")
        return
    named = protocol in ("json", "rest-json")
    known = {s.serialization.get("name", m) if named else m: (m, s) for m, s in shape.members.items()
             if not s.serialization.get("location")}  # what is in a header or the status is not in the body
    for key, v in value.items():
        if key not in known:
            problems.add(path, f"the model of {shape.name} has no member {key}")
        elif v is None:
            problems.add(f"{path}.{key}", "null")
        else:
            _check_tree(problems, f"{path}.{key}", known[key][1], v, protocol)
    for key, (member, _) in known.items():
        if member in shape.required_members and key not in value:
            problems.add(path, f"the required {key} is missing")


# --- scalars -----------------------------------------------------------------------------------------------------------


def _check_string(problems, path, shape, value):
    if not isinstance(value, str):
        problems.add(path, f"{value!r} is no string")
        return
    if shape.enum and value not in shape.enum:
        problems.add(path, f"{value!r} is not one of {shape.enum}")
    _check_range(problems, path, shape, len(value))
    pattern = shape.metadata.get("pattern")
    if pattern:
        try:
            fits = re.search(pattern, value)
        except re.error:
            return  # a pattern in a dialect that Python does not read
        if not fits:
            problems.add(path, f"{value!r} does not match {pattern}")


def _check_range(problems, path, shape, size):
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and size < low or high is not None and size > high:
        problems.add(path, f"{size} is not within {low}…{high}")


# --- errors ------------------------------------------------------------------------------------------------------------


def _check_error(problems, operation_model, protocol, status, headers, body):
    name = operation_model.name + " error"
    if status < 400 and (protocol, status) != ("rest-xml", 301):  # S3 redirects to the region of a bucket
        problems.add(name, f"an error with status {status}")
    code = None
    if protocol == "rest-xml":
        if not headers.get("x-amz-request-id"):
            problems.add(name, "the header x-amz-request-id is missing")
        if body:
            root = ElementTree.fromstring(body)
            if root.tag != "Error" or [_local(e) for e in root] != ["Code", "Message", "RequestId"]:
                problems.add(name, f"not shaped as S3's: {body!r}")
        return
    if protocol == "ec2":
        root = ElementTree.fromstring(body)
        shape = [[_local(e) for e in root], [_local(e) for e in root.findall("Errors/Error/*")]]
        if _local(root) != "Response" or shape != [["Errors", "RequestID"], ["Code", "Message"]]:
            problems.add(name, f"not shaped as EC2's: {body!r}")
        code = root.findtext("Errors/Error/Code")
    elif protocol == "query":
        root = ElementTree.fromstring(body)
        shape = [[_local(e) for e in root], sorted(_local(e) for e in root.findall("{*}Error/*"))]
        if _local(root) != "ErrorResponse" or shape != [["Error", "RequestId"], ["Code", "Message", "Type"]]:
            problems.add(name, f"not shaped as Query's: {body!r}")
        if root.findtext("{*}Error/{*}Type") not in ("Sender", "Receiver"):
            problems.add(name, "the error's type is neither Sender nor Receiver")
        code = root.findtext("{*}Error/{*}Code")
    elif protocol == "rest-json":
        code = (headers.get("x-amzn-errortype") or "").split(":")[0]
        if not isinstance(json.loads(body).get("message"), str):
            problems.add(name, "no message")
    else:
        tree = json.loads(body) if protocol == "json" else _cbor(operation_model, body)
        code = str(tree.get("__type", "")).rsplit("#", 1)[-1]
        if not isinstance(tree.get("message", tree.get("Message")), str):
            problems.add(name, "no message")
    if not code:
        problems.add(name, "no code")
    elif protocol != "ec2" and code not in _declared(operation_model) | COMMON_ERRORS | _unmodelled(operation_model):
        problems.add(name, f"{code} is not among the operation's errors {sorted(_declared(operation_model))}")
    if not headers.get("x-amzn-requestid"):
        problems.add(name, "the header x-amzn-requestid is missing")


def _unmodelled(operation_model):
    return UNMODELLED_ERRORS.get(operation_model.service_model.signing_name, set())


def _declared(operation_model):
    declared = set()
    for shape in operation_model.error_shapes:
        declared |= {shape.name, shape.error_code or shape.name}
    return declared
