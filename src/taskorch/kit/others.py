"""
Words of other tools without an equal of ours, each with our counterpart.

They are from Celery, Airflow, Prefect, Dagster, Temporal, DBOS, Dask, Ray, RQ, huey,
luigi and `concurrent.futures`. One table for all places where a word may stand: a name
of a package, an attribute, an option, a key of a document, a class of errors.
`vocabulary` looks an unknown word up here; a word that means exactly one of ours is in
`vocabulary`, and works.

Decision: names-and-docs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

#: Our counterparts, each with the words of others for it, in lower case without
#: underscores.
_TABLE: Final[tuple[tuple[str, str], ...]] = (
    (
        (
            "@taskorch.workflow writes down a graph; and a @task function may "
            "submit others and take their results"
        ),
        "flow subflow workflow",
    ),
    (
        "a graph of tasks is a taskorch.Workflow; @taskorch.workflow writes one",
        (
            "dag job graph pipeline graphasset repository definitions "
            "defineassetjob workflowdefinition dagrun flowrun jobdefinition"
        ),
    ),
    (
        "@taskorch.task decorates a function, and f.submit(x) makes a task",
        (
            "op asset step activity actor sharedtask delayed remote multiasset "
            "taskwrapper wrappertask baseoperator runstep scheduled transaction "
            "method defn contexttask currenttask"
        ),
    ),
    (
        "Task.call(f), or wf.task(f); Task.program([…]), or wf.program([…])",
        (
            "pythonoperator bashoperator emptyoperator dummyoperator "
            "kubernetespodoperator dockeroperator pythonvirtualenvoperator "
            "virtualenv externalpython docker pythoncallable bashcommand opargs "
            "opkwargs executeactivity startactivity executelocalactivity bash "
            "kubernetes"
        ),
    ),
    (
        (
            "with taskorch.TaskOrchestrator() as orch: orch.submit(f, x); and "
            "taskorch.ext.client.Client talks to a service"
        ),
        (
            "celery client queue scheduler parallel dbos dbosclient dbosconfig "
            "localcluster sshcluster init getclient huey redishuey sqlitehuey "
            "memoryhuey executor threadpoolexecutor processpoolexecutor "
            "interpreterpoolexecutor threadpooltaskrunner concurrenttaskrunner "
            "dasktaskrunner raytaskrunner taskrunner parallelconfig parallelbackend "
            "registerparallelbackend isinitialized launch destroy localscheduler "
            "centralplanner"
        ),
    ),
    (
        "orch.workflows.start(workflow).result() runs a graph",
        (
            "materialize materializetomemory executeinprocess executejob "
            "executeworkflow startworkflow executechildworkflow startchildworkflow "
            "rundeployment triggerdagrunoperator compute build runworkflow run"
        ),
    ),
    (
        "orch.workflows.get(id) is a run, and orch.workflows.list() names all",
        (
            "retrieveworkflow getworkflowhandle getexternalworkflowhandle "
            "listworkflows listqueuedworkflows listworkflowsteps workflowhandle "
            "getactor"
        ),
    ),
    (
        "orch.workflows.cancel, pause, resume and restart take the id of a run",
        (
            "cancelworkflow resumeworkflow pauseflowrun suspendflowrun "
            "resumeflowrun reset clear terminateworkflow"
        ),
    ),
    (
        "f.map(node) maps over the items of one node, and of no other",
        (
            "unmapped expandkwargs dynamicout dynamicoutput dynamicrequirements "
            "cross dynamicrequires withitems withparam foreach strategy matrix each"
        ),
    ),
    (
        "@taskorch.task(allow_failure=True), or map(…, allow_failures=2)",
        (
            "allowfailure continueonerror continueon ignorefailure softfail "
            "toleratedfailurepercentage toleratedfailurecount ignoreerrors"
        ),
    ),
    (
        "RetryPolicy(max_attempts=3, base=5) says when a task is tried again",
        (
            "retry backoff jitter exponentialbackoff retrystrategy retrybackoff "
            "retryjitter retrybackoffmax retryjitterfactor backoffcoefficient "
            "backoffrate retriesallowed intervalseconds maxretrydelay "
            "defaultretrydelay retryexponentialbackoff retrycount maxtaskretries "
            "maxrestarts disablehardtimeout repeat retryrequested retrytask"
        ),
    ),
    (
        (
            "RetryPolicy(retry_on=…) names the errors that are tried again; a task "
            "that raises taskorch.Permanent is not"
        ),
        (
            "autoretryfor dontautoretryfor retryexceptions nonretryableerrortypes "
            "retryconditionfn throws applicationerror airflowfailexception failure "
            "cancelexecution reject ignore nonretryable nonretryableerror"
        ),
    ),
    (
        "orch.handle(id) is the handle of a task",
        (
            "asyncresult resultset groupresult resultfromtuple future objectref "
            "prefectfuture fetchjob fetchmany taskexception resulttimeout "
            "latestresult refresh isfinished isfailed isqueued isstarted jobstatus"
        ),
    ),
    (
        "taskorch.testing has what tests need",
        "mark fixture buildopcontext immediate",
    ),
    (
        "f then g is orch.submit(g, orch.submit(f)), or workflow.chain(a, b)",
        "chain then link crossdownstream linkerror pipe",
    ),
    (
        "calls side by side are orch.map(f, items)",
        (
            "group chunks xmap enqueuemany batch batchsize batchmethod actorpool "
            "predispatch starmap"
        ),
    ),
    (
        "what comes after all of them takes their handles: orch.submit(g, hs)",
        "chord",
    ),
    (
        "taskorch.current_context() knows the task; logging logs",
        "getrunlogger logger log getlogger logprints",
    ),
    (
        ("Task.wait_for(None, timeout=60, default=None) waits and holds no thread"),
        "sleep timer waituntil",
    ),
    (
        "handles are waited for by taskorch.as_completed or orch.gather",
        "wait firstcompleted allcompleted firstexception notdone",
    ),
    (
        "orch.gather(handles) gives their results",
        "gather getmany persist",
    ),
    (
        (
            "Task.wait_for(event) waits, and orch.emit(event, payload) ends that; a "
            "task that raises is tried again, and polls"
        ),
        (
            "sensor basesensoroperator externaltasksensor waitcondition recv "
            "receiveinput waitforevent assetsensor runstatussensor event poke "
            "pokeinterval reschedule deferrable waitforsignal taskdeferred getevent "
            "raisecompleteasync"
        ),
    ),
    (
        "orch.emit(event, payload) sends an event to what waits for it",
        (
            "signal sendevent signalwithstart send setevent emitevent pub sub "
            "broadcast sendsignal executeupdate"
        ),
    ),
    (
        "orch.schedules.add('name', '0 3 * * *', what) runs it on time",
        (
            "schedule scheduleinterval interval crontab periodictask "
            "addperiodictask scheduledefinition schedulespec scheduleintervalspec "
            "createschedule cronschedule onafterconfigure beat rqscheduler "
            "buildschedulefrompartitionedjob cronscheduler rangedaily rangehourly "
            "rangemonthly every scheduleto timetable automationcondition "
            "beatschedule serve deploy deployment fromsource schedules"
        ),
    ),
    (
        "current_context().slot is the time that it was scheduled for",
        (
            "logicaldate executiondate ds tsnodash ts dataintervalstart "
            "dataintervalend partitionkey nextds prevds scheduledtime "
            "partitiontimewindow"
        ),
    ),
    (
        (
            "a tick of a schedule is its partition: orch.schedules.backfill(name, "
            "since=…) fills them"
        ),
        (
            "dailypartitionsdefinition hourlypartitionsdefinition "
            "staticpartitionsdefinition dynamicpartitionsdefinition partitionsdef "
            "partitions dateintervalparameter partitioneddefinition"
        ),
    ),
    (
        (
            "catch_up= of a schedule says what follows missed ticks, and overlap= "
            "what follows a run that goes on"
        ),
        (
            "dependsonpast waitfordownstream maxactiveruns maxactivetasks "
            "dagruntimeout catchup misfiregracetime coalesce idreusepolicy "
            "idconflictpolicy"
        ),
    ),
    (
        (
            "parameters of a workflow, @workflow(…) of a function: start(workflow, "
            "parameters={…})"
        ),
        (
            "param params config parameter intparameter dateparameter boolparameter "
            "listparameter dictparameter enumparameter taskparameter configschema "
            "runinput defaultargs runconfig paramkwargs inputs requiredresourcekeys "
            "choiceparameter floatparameter timedeltaparameter parameters"
        ),
    ),
    (
        (
            "a result is an argument: orch.submit(g, orch.submit(f)); "
            "context.results has them by id"
        ),
        (
            "xcom xcompush xcompull taskoutput in out ins outs output input assetin "
            "assetout assetkey materializeresult nothing upstreamtasks "
            "assetselection"
        ),
    ),
    (
        "after= takes handles, nodes and ids that a task waits for",
        (
            "requires deps dependencies dependency parents upstream needs "
            "setdownstream setupstream inherits clone waitfor dependson"
        ),
    ),
    (
        "join= is 'all', 'any', 'finished', AtLeast(k) or a function of states",
        "triggerrule alldone onesuccess nonefailed allfailed",
    ),
    (
        (
            "a task that is not needed is not submitted by the function that "
            "decides; on_parent_failure='skip' skips"
        ),
        (
            "branch branchpythonoperator shortcircuit shortcircuitoperator "
            "branchoperator airflowskipexception skipreason skip runif when if "
            "skipif conditional"
        ),
    ),
    (
        "parts of a workflow: wf.include(other), and phases by wf.phase(name)",
        (
            "taskgroup groupname subdag edgemodifier label setup teardown finally "
            "asteardown assetup"
        ),
    ),
    (
        "orch.signals has what has ended; orch.notify(…) sends word of failures",
        (
            "onfailure onsuccess oncompletion oncancellation oncrashed onrunning "
            "onretry onfailurecallback onsuccesscallback onretrycallback "
            "onexecutecallback onstopped callback successhook failurehook "
            "taskfailure tasksuccess taskprerun taskpostrun preexecute postexecute "
            "eventhandler emailonfailure emailonretry email slamisscallback "
            "runfailuresensor onstartup onshutdown pushexchandler onrollback "
            "oncommit taskfailed"
        ),
    ),
    (
        ("timeout= is for an attempt, deadline= for all of them; orch.alerts watches"),
        (
            "sla timelimit softtimelimit scheduletoclosetimeout "
            "scheduletostarttimeout resulttimeoutseconds heartbeattimeout "
            "workertimeout setworkflowtimeout freshnesspolicy activedeadlineseconds "
            "timeoutminutes timeoutseconds stepstimeout deadlinealert deadlinereference"
        ),
    ),
    (
        "orch.resources.set_quotas(Quota(…)) bounds how many start in a time",
        "ratelimit limiter ratelimiter throttle debouncer debounce cooldown",
    ),
    (
        (
            "resources={'db': 1}, of TaskOrchestrator(resources={'db': 2}), lets "
            "two at once"
        ),
        (
            "pool poolslots lock locktask semaphore concurrencylimit "
            "concurrencygroups workerconcurrency tasklockedexception mutex slots "
            "parallelism synchronization distributedlock multilock "
            "globalconcurrencylimit taskconcurrency maxactivetisperdag resources"
        ),
    ),
    (
        "TaskOrchestrator(concurrency=4) says how many run at once",
        (
            "nworkers njobs maxworkers threadsperworker nprocesses workerpool "
            "numworkers effectivenjobs cpucount ncores nthreads concurrency"
        ),
    ),
    (
        (
            "requires=['gpu'] names what the worker must have, of those that come "
            "by orch.agent"
        ),
        (
            "queuename routingkey exchange taskqueue workqueuename workpoolname "
            "workpool allowotherworkers placementgroup schedulingstrategy "
            "placementgroupschedulingstrategy nodeaffinityschedulingstrategy "
            "acceleratortype nodeselector affinity runson taskroutes getworker "
            "workers"
        ),
    ),
    (
        "taskorch agent URL is a worker elsewhere; @orch.agent(…) is one here",
        (
            "worker simpleworker workermain work burst consumer actors workerclient "
            "nodes consumers nanny startworker serveworker runner"
        ),
    ),
    (
        (
            "resources={'cpu': 2, 'memory_mb': 512} of a task; "
            "orch.resources.usage() has what is free"
        ),
        (
            "numcpus numgpus memorylimit clusterresources availableresources "
            "executorconfig resource configurableresource schedulerinfo ncpus"
        ),
    ),
    (
        "executor='process' runs it in a process; functions load what they need",
        (
            "runtimeenv initializer initargs mpcontext maxtasksperchild "
            "threadnameprefix maxcalls uploadfile workerplugin registerplugin "
            "prefer require backend executioncontext wrapnonpicklableobjects "
            "maxconcurrency"
        ),
    ),
    (
        ("cache=True, or Cache(…), remembers results; orch.memo.clear() forgets them"),
        (
            "cachekeyfn cachepolicy cacheexpiration memory memoize persistresult "
            "pure refreshcache checkcallincache reducesize codeversion cacheresult "
            "memoryless"
        ),
    ),
    (
        ("TaskOrchestrator(journal='runs.db') keeps results; retention= says how long"),
        (
            "resultbackend broker brokerurl resultstorage resultserializer "
            "ignoreresult resultttl failurettl ttl resultexpires iomanager "
            "storageoptions storagekwargs serializer dataconverter iomanagerkey "
            "tempfolder maxnbytes mmapmode compress storage dump load lifetime "
            "database publishdataset getdataset localtarget target externaltask"
        ),
    ),
    (
        "id= names a task, and the same id is the same task",
        (
            "setworkflowid deduplicationid taskrunname flowrunname unique nametask "
            "setenqueueoptions taskname jobid workflowid deduplicate taskrunid"
        ),
    ),
    (
        "metadata={…} labels a task; orch.tasks(metadata=…) finds it",
        (
            "tags tag meta savemeta memo searchattributes upsertsearchattributes "
            "description docmd annotations labels doc owneremail displayname"
        ),
    ),
    (
        "priority= puts it before others; orch.set_priority(id, 9) moves it",
        "priorityweight weightrule atfront reschedulefirst",
    ),
    (
        "not_before=60 begins later; expires and deadlines are of the queue",
        "delay enqueuein enqueueat startdelay expires startafter defer runafter",
    ),
    (
        "current_context() is the context of the task that runs",
        (
            "getcurrentcontext getcontext getruntimecontext getcurrentjob "
            "currentjob request ti taskinstance info assetexecutioncontext "
            "opexecutioncontext runtime getcurrentconnection stepid providecontext "
            "bind taskrun dagrunid runid context activityinfo workflowinfo "
            "getruncontext"
        ),
    ),
    (
        (
            "current_context().progress(…) says how far it is; a checkpoint ends it "
            "where that is wanted"
        ),
        (
            "heartbeat updatestate setprogresspercentage setstatusmessage "
            "iscancelled waitforcancelled isrevoked isaborted setprogress "
            "recordheartbeat"
        ),
    ),
    (
        "current_context().workflow knows the run, and adds tasks to it",
        "addtask getworkflow rununtilcomplete spawnchild",
    ),
    (
        (
            "f.submit(x) in a function calls it as a task of its own; its handle "
            "may be returned"
        ),
        (
            "fireandforget secede rejoin runonscheduler exitactor returnstate "
            "calllocal executeasync applyasync runinbackground"
        ),
    ),
    (
        ("current_context().workflow.exchange and barrier let tasks of a run meet"),
        "writestream readstream closestream stream channel",
    ),
    (
        "Task.question(…) waits for a person, and orch.answer ends it",
        (
            "pausefor approval humaninput query update suspend manualapproval "
            "waitforinput"
        ),
    ),
    (
        (
            "orch.get_stats() and orch.health() say how it stands; taskorch inspect "
            "shows it"
        ),
        (
            "control inspect performancereport gettaskstream dashboardlink timeline "
            "getstate state statetype whohas registeredtasks startedjobregistry "
            "finishedjobregistry failedjobregistry deferredjobregistry "
            "scheduledjobregistry jobids pending describe stats visualize artifact "
            "createmarkdownartifact createtableartifact createlinkartifact "
            "artifacts assetcheck assetcheckresult verbose completed failed "
            "cancelled crashed running"
        ),
    ),
    (
        (
            "orch.cancel_task(id) calls a task off; orch.change('cancel', …) all of "
            "a kind"
        ),
        (
            "revoke revokebyid purge kill discard discardall flush empty delete "
            "canceljob sendstopjobcommand terminate abort cancel"
        ),
    ),
    (
        "orch.steps.fork(id, at='step') runs a task again from a step",
        "forkworkflow forkrun rewind resetworkflow replayfrom restartfromstep",
    ),
    (
        "orch.rerun_task(id) runs a task again that has ended",
        "requeue replay retryjob rerunfailed retrymany restart restore",
    ),
    (
        (
            "orch.submit(f, x) submits a call by its function, and @taskorch.task "
            "names it"
        ),
        (
            "sendtask autodiscovertasks enqueuecall signature subtask perform "
            "callable registertask configfromobject conf includetasks namespace "
            "autonamespace taskfamily cls tasknamespace"
        ),
    ),
    (
        (
            "settings are arguments of TaskOrchestrator, keys of taskorch.toml, and "
            "variables TASKORCH_…"
        ),
        (
            "basehook block secret settings workerprefetchmultiplier accept content "
            "interceptors hooks plugins pluginsmanager variabledefault connection"
        ),
    ),
    (
        "what a task returns is kept; files are declared by writes=[…]",
        (
            "dataset inletsoutlets outlets inlets openlineage lineage "
            "adddatasetevent assetmaterialization"
        ),
    ),
    (
        (
            "@taskorch.task goes on a function of your own; what listens to Kafka "
            "is such a function, which calls orch.submit"
        ),
        "kafkaconsumer runrequest webhook trigger assetmaterializationsensor",
    ),
    (
        (
            "@workflow and Workflow run tasks, models and servers are those of the "
            "function"
        ),
        "tune data train learn",
    ),
    (
        (
            "roles are of named tokens: taskorch tokens; owner= is for whom a task "
            "is done"
        ),
        "requiredroles roles user runasuser acl accesscontrol authorization",
    ),
    (
        (
            "taskorch.errors.TaskFailedError, or the error itself, is what a failed "
            "task raises"
        ),
        (
            "airflowexception activityerror childworkflowerror failureerror "
            "raytaskerror failedrun crashedrun maxretriesexceedederror "
            "dbosmaxstepretriesexceeded dagsterexecutionsteperror missingresult "
            "rayerror prefectexception hueyexception taskerror jobfailed "
            "executionfailed workflowfailure workflowfailureerror"
        ),
    ),
    (
        "taskorch.errors.TaskTimeoutError ends a task that is out of time",
        (
            "softtimelimitexceeded timelimitexceeded airflowtasktimeout "
            "gettimeouterror timeouterror jobtimeoutexception timeoutexception "
            "airflowsensortimeout"
        ),
    ),
    (
        ("taskorch.errors.TaskCancelledError is that of a task that was cancelled"),
        (
            "cancellederror dbosworkflowcancellederror taskrevokederror canceledrun "
            "cancelledrun invalidstateerror taskcancelled"
        ),
    ),
    (
        "taskorch.errors.AttemptLostError: the worker died under it",
        (
            "killedworker workercrashederror brokenexecutor brokenprocesspool "
            "rayactorerror workerlosterror objectlosterror outofmemoryerror "
            "actordiederror brokenthreadpool zombiejob"
        ),
    ),
    (
        "taskorch.errors.UnknownTaskError: no task has that id",
        (
            "nosuchjoberror dbosnonexistentworkflowerror notregistered "
            "workflownotfound objectnotfound dagnotfound"
        ),
    ),
    (
        "taskorch.errors.DuplicateTaskError: the id is another task's",
        (
            "workflowalreadystartederror alreadyregistered "
            "dbosconflictingworkflowerror dagrunalreadyexists alreadyexists"
        ),
    ),
    (
        ("taskorch.errors.InvalidTaskError: what was asked for is not well formed"),
        (
            "missingparameterexception dagsterinvaliddefinitionerror "
            "parametertypeerror dagsterinvalidconfigerror validationerror "
            "parametervalueerror serializationerror encodeerror picklingerror "
            "airflowclustpolicyviolation improperlyconfigured"
        ),
    ),
    (
        (
            "current_context().checkpoint() ends an attempt that is to stop; one "
            "that raises is tried again by its retry="
        ),
        "airflowrescheduleexception rescheduleexception",
    ),
    (
        (
            "arguments go with each call: orch.submit(f, x); what all need is "
            "loaded once by executor='process'"
        ),
        "scatter rebalance replicate put",
    ),
    (
        "each call is a task of its own; buffersize= says how many are ahead",
        "chunksize returnas numreturns",
    ),
    (
        "orch.stop(), or the end of the with block, ends it",
        "close shutdownall adapt scale shutdown",
    ),
    (
        "orch.gather(handles) gives results, and handle.result() that of one",
        "get getresults fetchall",
    ),
    (
        "a handle that nobody keeps lets go of its result",
        "release forget freeresult",
    ),
    (
        "current_context().attempt is the number of the attempt, from 1",
        "retries attemptnumber retrynumber",
    ),
    (
        "handle.exception() is the error, with its traceback",
        "excinfo traceback",
    ),
    (
        "handle.result() has it, of orch.submit or orch.handle(id)",
        "result results",
    ),
    (
        "call: names a function, program: ['a', 'b'] a program, of a task",
        "entrypoint container steps env image script args command uses",
    ),
    (
        (
            "orch.kept(name) keeps documents, and "
            "current_context().workflow.exchange shares values within a run"
        ),
        "variable variables",
    ),
    (
        (
            "an attempt is run, and never replayed: a function asks the clock, and "
            "chance, itself"
        ),
        "now random uuid4 sideeffect patched deprecatepatch patch",
    ),
    (
        (
            "a budget adds up amounts: orch.budget('release', eur=15) limits them, and "
            "Task(budget='release') draws on it"
        ),
        "sum spend spending spendlimit costlimit maxcost",
    ),
    (
        "a schedule makes the next run; a history does not grow in a run",
        "continueasnew",
    ),
)


def _bare(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()


#: The same table by word.
_BY_WORD: Final[Mapping[str, str]] = {
    word: remedy for remedy, words in _TABLE for word in words.split()
}


def elsewhere(word: str) -> str:
    """Return our counterpart of a *word* of other libraries, or ""."""
    return _BY_WORD.get(_bare(word), "")
