from taskorch import TaskOrchestrator

orch = TaskOrchestrator()


@orch.agent("packer", capabilities={"pack"})
def pack(task, context):
    return f"packed {task.payload['order']}"


if __name__ == "__main__":
    with orch, orch.serve(port=0, mcp=["submit", "cancel"]) as server:
        print(server.url + "/mcp")
