"""A stand-in for DataRobot's API that remembers, and that checks each request against what is known of the real one.

What it checks comes from the source of the `datarobot` client 3.20, and for two payloads from DataRobot's Terraform
provider. It was never compared with a real DataRobot: it shows that the client is used as its source says, no more.
"""
