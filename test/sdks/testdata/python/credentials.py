"""Prints the access key id that boto3's default chain finds; exit code 1 where it finds none."""

import sys

import boto3

credentials = boto3.session.Session().get_credentials()
if credentials is None:
    sys.exit("no credentials")
print(credentials.get_frozen_credentials().access_key)
