"""Validates lists of components with the CycloneDX project's own library. Prints the number of components of each;
exits with 1 at the first error."""

import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

for path in sys.argv[1:]:
    text = open(path, encoding="utf-8").read()
    if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        sys.exit(f"{path}: {error}")
    print(len(json.loads(text)["components"]))
