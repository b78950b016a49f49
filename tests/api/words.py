"""
Public names of twelve tools, by where one writes them.

Names are facts: each is in the documentation of its tool. `root` is a name of the
package, `app` an attribute of what runs things, `handle`, `context`, `flow` and `function`
one of these, `option` a keyword of a task, `schedule` one of a schedule, `retry` one of a
policy of retries, `error` a class of errors, `key` a key of a document.
"""

from __future__ import annotations

_NAMES = """
celery.root Celery Task shared_task chain group chord chunks signature subtask xmap
celery.root starmap current_task
celery.app task send_task control conf add_periodic_task autodiscover_tasks AsyncResult
celery.app on_after_configure worker_main config_from_object close start GroupResult tasks
celery.handle get ready successful failed state status result revoke forget id traceback
celery.context request retry update_state task_id retries
celery.function delay apply_async s si retry chunks starmap signature
celery.option bind max_retries default_retry_delay autoretry_for retry_backoff retry_jitter
celery.option retry_backoff_max acks_late rate_limit time_limit soft_time_limit queue
celery.option ignore_result link link_error expires routing_key exchange serializer priority
celery.option countdown eta task_id throws
celery.error MaxRetriesExceededError SoftTimeLimitExceeded TimeLimitExceeded Ignore Reject
celery.error Retry TaskRevokedError WorkerLostError NotRegistered
airflow.root DAG dag task task_group TaskGroup BaseOperator PythonOperator BashOperator
airflow.root BranchPythonOperator ShortCircuitOperator EmptyOperator TriggerDagRunOperator
airflow.root ExternalTaskSensor BaseSensorOperator Variable Connection BaseHook XCom Dataset
airflow.root Asset Param get_current_context cross_downstream Label setup teardown
airflow.context xcom_push xcom_pull logical_date execution_date ds ti task_instance dag_run
airflow.context params data_interval_start run_id
airflow.function expand partial override expand_kwargs
airflow.option trigger_rule pool pool_slots priority_weight weight_rule execution_timeout
airflow.option retry_exponential_backoff max_retry_delay on_failure_callback sla queue
airflow.option on_success_callback on_retry_callback depends_on_past wait_for_downstream
airflow.option executor_config email_on_failure provide_context op_args op_kwargs outlets
airflow.option python_callable bash_command doc_md retries retry_delay owner params
airflow.schedule catchup schedule_interval start_date end_date max_active_runs timetable
airflow.schedule dagrun_timeout default_args max_active_tasks tags
airflow.error AirflowException AirflowSkipException AirflowFailException
airflow.error AirflowRescheduleException AirflowTaskTimeout TaskDeferred
prefect.root flow task Flow State get_run_logger get_client unmapped allow_failure serve
prefect.root deploy pause_flow_run suspend_flow_run resume_flow_run tags runtime variables
prefect.root Block Secret create_markdown_artifact concurrency rate_limit emit_event
prefect.root transaction ThreadPoolTaskRunner DaskTaskRunner RayTaskRunner run_deployment
prefect.root exponential_backoff PrefectFuture wait as_completed get_run_context
prefect.handle wait result state task_run_id
prefect.context task_run flow_run parameters
prefect.function submit map with_options serve deploy
prefect.option cache_key_fn cache_policy cache_expiration persist_result result_storage
prefect.option result_serializer retry_delay_seconds retry_jitter_factor task_run_name
prefect.option retry_condition_fn timeout_seconds log_prints task_runner on_rollback
prefect.option on_commit return_state on_failure on_completion on_cancellation on_running
prefect.option wait_for refresh_cache flow_run_name
prefect.error MissingResult CrashedRun FailedRun CancelledRun
dagster.root asset multi_asset graph_asset op job graph sensor schedule asset_sensor
dagster.root run_status_sensor resource ConfigurableResource Config Definitions In Out
dagster.root DynamicOut DynamicOutput Output Nothing materialize MaterializeResult
dagster.root AssetExecutionContext OpExecutionContext define_asset_job AssetSelection
dagster.root AssetKey AssetIn AssetOut AssetCheckResult asset_check RetryPolicy Backoff
dagster.root DailyPartitionsDefinition HourlyPartitionsDefinition io_manager IOManager
dagster.root StaticPartitionsDefinition DynamicPartitionsDefinition Jitter RetryRequested
dagster.root Failure ScheduleDefinition build_schedule_from_partitioned_job RunRequest
dagster.root SkipReason AutomationCondition execute_job build_op_context repository
dagster.root success_hook failure_hook
dagster.flow execute_in_process
dagster.context partition_key log run_id resources asset_key
dagster.option deps ins outs out required_resource_keys config_schema partitions_def
dagster.option freshness_policy code_version group_name retry_policy automation_condition
dagster.error Failure RetryRequested DagsterInvalidDefinitionError DagsterInvalidConfigError
temporal.root workflow activity Client Worker ScheduleSpec ScheduleIntervalSpec
temporal.app start_workflow execute_workflow get_workflow_handle list_workflows
temporal.app create_schedule
temporal.handle signal query cancel terminate describe result execute_update
temporal.context heartbeat info continue_as_new wait_condition sleep now uuid4 random
temporal.context execute_activity start_activity execute_local_activity patched
temporal.context execute_child_workflow start_child_workflow upsert_search_attributes
temporal.context get_external_workflow_handle is_cancelled wait_for_cancelled logger
temporal.context raise_complete_async deprecate_patch
temporal.option task_queue start_to_close_timeout schedule_to_close_timeout retry_policy
temporal.option schedule_to_start_timeout heartbeat_timeout memo search_attributes
temporal.option id_reuse_policy cron_schedule start_delay
temporal.retry initial_interval backoff_coefficient maximum_interval maximum_attempts
temporal.retry non_retryable_error_types
temporal.error ApplicationError ActivityError ChildWorkflowError CancelledError FailureError
temporal.error TimeoutError WorkflowAlreadyStartedError
dbos.root DBOS DBOSClient DBOSConfig Queue SetWorkflowID SetWorkflowTimeout
dbos.root SetEnqueueOptions
dbos.app workflow step transaction scheduled enqueue start_workflow retrieve_workflow send
dbos.app recv set_event get_event sleep launch destroy cancel_workflow resume_workflow
dbos.app fork_workflow list_workflows list_queued_workflows list_workflow_steps logger
dbos.app kafka_consumer write_stream read_stream close_stream run_step patch
dbos.handle get_result get_status workflow_id
dbos.context workflow_id step_id logger
dbos.option retries_allowed interval_seconds max_attempts backoff_rate worker_concurrency
dbos.option limiter deduplication_id required_roles
dbos.error DBOSMaxStepRetriesExceeded DBOSWorkflowCancelledError
dbos.error DBOSNonExistentWorkflowError
dask.root Client LocalCluster delayed compute persist as_completed wait fire_and_forget
dask.root get_client get_worker worker_client secede rejoin Variable Queue Lock Semaphore
dask.root Event Pub Sub performance_report get_task_stream WorkerPlugin SSHCluster Future
dask.app submit map gather scatter compute persist cancel retry rebalance replicate run
dask.app run_on_scheduler upload_file who_has ncores scheduler_info register_plugin
dask.app publish_dataset get_dataset dashboard_link close shutdown restart nthreads
dask.handle result exception traceback cancel cancelled done release add_done_callback
dask.handle retry status key
dask.option retries priority resources workers allow_other_workers pure actor key
dask.error KilledWorker TimeoutError CancelledError
ray.root init remote get put wait kill cancel shutdown is_initialized get_actor method nodes
ray.root cluster_resources available_resources get_runtime_context timeline ObjectRef
ray.root ActorPool placement_group PlacementGroupSchedulingStrategy serve tune data train
ray.root NodeAffinitySchedulingStrategy workflow exit_actor actor
ray.function remote options bind
ray.option num_cpus num_gpus memory num_returns max_calls max_retries retry_exceptions
ray.option runtime_env scheduling_strategy accelerator_type max_restarts max_task_retries
ray.option max_concurrency concurrency_groups lifetime namespace name
ray.error RayTaskError GetTimeoutError WorkerCrashedError OutOfMemoryError ObjectLostError
ray.error TaskCancelledError RayActorError RayError
rq.root Queue Worker SimpleWorker WorkerPool Job Retry Repeat Callback get_current_job
rq.root get_current_connection Dependency JobStatus
rq.app enqueue enqueue_in enqueue_at enqueue_call enqueue_many fetch_job job_ids empty
rq.app delete requeue cancel_job send_stop_job_command work push_exc_handler
rq.handle get_status is_finished is_failed is_queued is_started latest_result return_value
rq.handle results exc_info refresh perform cancel delete requeue meta save_meta
rq.option job_timeout result_ttl failure_ttl ttl depends_on at_front on_success on_failure
rq.option on_stopped description meta job_id retry repeat unique
rq.error NoSuchJobError
huey.root RedisHuey SqliteHuey MemoryHuey Huey crontab signal
huey.app task periodic_task lock_task context_task on_startup on_shutdown pre_execute
huey.app post_execute signal revoke restore is_revoked revoke_by_id reschedule pending
huey.app scheduled result put flush immediate rate_limit
huey.function call_local schedule revoke restore s map
huey.option retries retry_delay priority expires delay eta context name
huey.error CancelExecution RetryTask TaskException TaskLockedException HueyException
huey.error ResultTimeout
luigi.root Task ExternalTask WrapperTask Config Parameter DateParameter IntParameter
luigi.root BoolParameter ListParameter DictParameter EnumParameter DateIntervalParameter
luigi.root TaskParameter LocalTarget Target build run Event inherits namespace
luigi.root auto_namespace DynamicRequirements RangeDaily RangeHourly
luigi.context set_status_message set_progress_percentage requires input output
luigi.option requires retry_count worker_timeout disable_hard_timeout batch_method
luigi.option local_scheduler task_namespace workers
luigi.error MissingParameterException
futures.root ThreadPoolExecutor ProcessPoolExecutor InterpreterPoolExecutor Executor Future
futures.root as_completed wait FIRST_COMPLETED ALL_COMPLETED FIRST_EXCEPTION Parallel
futures.root delayed Memory parallel_config parallel_backend effective_n_jobs cpu_count dump
futures.root load register_parallel_backend wrap_non_picklable_objects
futures.app submit map shutdown
futures.handle result exception add_done_callback cancel cancelled running done
futures.option n_jobs prefer require return_as pre_dispatch batch_size verbose backend
futures.option chunksize initializer initargs mp_context max_tasks_per_child mmap_mode
futures.option max_nbytes temp_folder thread_name_prefix max_workers
futures.error CancelledError TimeoutError BrokenExecutor BrokenProcessPool InvalidStateError
airflow.key schedule_interval trigger_rule retries retry_delay depends_on_past bash_command
prefect.key entrypoint work_pool parameters schedules tags
argo.key if continue-on-error strategy retryStrategy withItems needs runs-on when container
argo.key dependsOn timeout-minutes steps env
"""


def names() -> list[tuple[str, str, str]]:
    """The tool, where one writes it, and the name."""
    rows = []
    for line in _NAMES.split("\n"):
        head, _, words = line.partition(" ")
        tool, _, place = head.partition(".")
        rows += [(tool, place, word) for word in words.split()]
    return rows
