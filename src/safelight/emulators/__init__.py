"""The providers from the other side: fal and KIE as they look on the wire, with faults on request (P7)."""
