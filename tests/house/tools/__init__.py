"""
What taskorch's own tests are made with, and users have no need of.

Random worlds, and a search in them for seeds that break a promise of ours.

- `explore`: a random world from a seed, and the few things that make it fail.
- `workload`: random policies, workers and tasks, and what is done to them.
- `rooms`, `book`: worlds with all above the kernel, and what is to hold of their
  events.
- `programs`: what a program has around it in them: jobs, and who is told.
- `workflow_runs`, `opinion`: random runs of workflows, and what must become of one.
- `soak`: fresh seeds for as long as you like.

And what keeps the core and its extensions apart.

- `fences`: lists of what ties them to each other, which may only become shorter.
- `extensions`, `acts`: which files each extension has, and copies of the package
  without them; what a user does with such a copy.
- `ways`: what a task costs, in calls, changes of file and files.
- `weight`: what the code weighs, which may only become less.
"""
