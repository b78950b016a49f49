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
// Those that a journal alone cannot fill.
export const LIVE = ["agents", "questions", "schedules"];

const runs = (route) => route.id ? runPage(route) : runsPage(route);
export const VIEWS = {
  "": overviewPage, runs, workflows: runs, tasks: tasksPage, task: taskPage, timeline: timelinePage,
  agents: agentsPage, questions: questionsPage, schedules: schedulesPage, metrics: metricsPage, events: eventsPage,
};
