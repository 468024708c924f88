"""Holds XML documents against a schema in RELAX NG compact syntax: validate.py SCHEMA DIRECTORY.

Prints one line for each file that is not valid, and how many were looked at.
"""

import pathlib
import sys

import lxml.etree
import rnc2rng

schema = rnc2rng.dumps(rnc2rng.load(sys.argv[1]))
relaxng = lxml.etree.RelaxNG(lxml.etree.fromstring(schema.encode()))
files = sorted(pathlib.Path(sys.argv[2]).glob("*.xml"))
for path in files:
    try:
        document = lxml.etree.parse(str(path))
    except lxml.etree.XMLSyntaxError as error:
        print(f"invalid {path.name}: {error}")
        continue
    if not relaxng.validate(document):
        print(f"invalid {path.name}: {relaxng.error_log.last_error}")
print("looked at", len(files))
