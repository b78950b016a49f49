"""
Documents that people write: one reader, and what each key may be.

It knows no kind of document: those are classes of the rooms that make something of
them, whose fields have forms.

- `located`: values that know where they stand in a file.
- `yaml_text`: YAML 1.2, the part of it that is JSON in other letters.
- `forms`: what a value may be: how it is read, its schema, its line on the page of
  keys.
- `budgets`: what documents declare of budgets, and what tasks draw on.
- `patterns`: regular expressions of users, in bounded time.

Decisions: 0076, 0129, 0196, 0203.
"""
