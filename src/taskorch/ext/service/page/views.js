// Which pages there are: `(route, latest numbers) -> { parts, update, stop }` each.
import { overviewPage } from "/page/overview.js";
import { questionsPage, schedulesPage } from "/page/people.js";
import { runPage } from "/page/run.js";
import { runsPage } from "/page/runs.js";
import { taskPage, tasksPage } from "/page/tasks.js";
import { agentsPage, eventsPage, metricsPage, timelinePage } from "/page/workers.js";

export const TITLES = {
  "": "Overview", runs: "Runs", tasks: "Tasks", schedules: "Schedules", questions: "Questions", timeline: "Timeline",
  agents: "Workers and resources", metrics: "Metrics", events: "Events",
};
// What a role must allow for each of them.
export const NEEDS = {
  "": "nights", runs: "runs", tasks: "tasks", schedules: "find_schedules", questions: "questions", timeline: "timeline",
  agents: "agents", metrics: "measured", events: "events",
};
// Those that a journal alone cannot fill.
export const LIVE = ["agents", "questions", "schedules"];

const runs = (route) => route.id ? runPage(route) : runsPage(route);
export const VIEWS = {
  "": overviewPage, runs, workflows: runs, tasks: tasksPage, task: taskPage, timeline: timelinePage,
  agents: agentsPage, questions: questionsPage, schedules: schedulesPage, metrics: metricsPage, events: eventsPage,
};
