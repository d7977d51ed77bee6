"""Reads CloudEvents with the CNCF's library: files with one event per line, and batches. Prints the ids in order; exits
with 1 at the first error."""

import json
import sys

from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

for path in sys.argv[1:]:
    text = open(path, encoding="utf-8").read()
    events = [json.dumps(event) for event in json.loads(text)] if text.startswith("[") else text.splitlines()
    for number, event in enumerate(events, 1):
        # The library generates these where they are missing.
        missing = {"specversion", "id", "time"} - json.loads(event).keys()
        if missing:
            sys.exit(f"{path}:{number}: without {missing}")
        try:
            event = JSONFormat().read(CloudEvent, event.encode())
        except Exception as error:
            sys.exit(f"{path}:{number}: {error}")
        if event.get_data()["id"] != event.get_id():
            sys.exit(f"{path}:{number}: holds another event")
        print(event.get_id())
