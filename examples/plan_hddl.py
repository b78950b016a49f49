"""
A domain in HDDL, the language in which planners of task networks exchange domains.

A plan of others is checked; then ours is made, and an agent drives it.
"""

from taskorch import Task, TaskContext, TaskOrchestrator
from taskorch.ext.planner import TaskRequest, read_hddl

DOMAIN = """
(define (domain vans)
  (:types van place)
  (:predicates (at ?v - van ?p - place) (road ?a ?b - place))
  (:task go :parameters (?v - van ?to - place))
  (:method there :parameters (?v - van ?to - place) :task (go ?v ?to)
    :precondition (at ?v ?to) :ordered-subtasks ())
  (:method on :parameters (?v - van ?a ?b ?to - place) :task (go ?v ?to)
    :precondition (and (at ?v ?a) (road ?a ?b))
    :ordered-subtasks (and (drive ?v ?a ?b) (go ?v ?to)))
  (:action drive :parameters (?v - van ?a ?b - place)
    :precondition (and (at ?v ?a) (road ?a ?b))
    :effect (and (not (at ?v ?a)) (at ?v ?b))))
"""
PROBLEM = """
(define (problem today) (:domain vans)
  (:objects red - van a b c - place)
  (:htn :parameters () :ordered-subtasks (and (go red c)))
  (:init (at red a) (road a b) (road b c)))
"""


def drive(task: Task, context: TaskContext) -> None:
    print(task.payload)


def main() -> None:
    problem = read_hddl(DOMAIN, PROBLEM)
    print(problem.check([("drive", "red", "a", "c")]))  # there is no such road
    with TaskOrchestrator() as orch:
        orch.agent("red", capabilities={"drive"})(drive)
        orch.planner.domain(problem.domain)
        today = {"args": ["red", "c"], "state": problem.state}
        plan = orch.planner.plan(TaskRequest("today", type="go", context=today))
        orch.workflows.start(plan).result()


if __name__ == "__main__":
    main()
