"""What all parts agree on: subjects, ids, messages and their schemas. Pure; it knows no bus."""
