"""Validates files of OCSF events with two independent packages: the published schema of each event's version and class,
and models of the fields that every event has. Prints the number of events; exits with 1 at the first error."""

import json
import sys

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema
from py_ocsf_models.events.base_event import BaseEvent

validators = {}


def validator(version, class_uid):
    if (version, class_uid) not in validators:
        schema = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=version))
        of_class = schema.get_class_schema(schema.lookup_class_name_from_uid(class_uid=class_uid))
        validators[version, class_uid] = Draft202012Validator(of_class)
    return validators[version, class_uid]


count = 0
for path in sys.argv[1:]:
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        event = json.loads(line)
        errors = list(validator(event["metadata"]["version"], event["class_uid"]).iter_errors(event))
        if event["type_uid"] != event["class_uid"] * 100 + event["activity_id"]:
            sys.exit(f"{path}:{number}: type_uid {event['type_uid']}")
        if errors:
            sys.exit(f"{path}:{number}: {errors[0].json_path}: {errors[0].message}")
        BaseEvent.model_validate(event)
        count += 1
print(count)
