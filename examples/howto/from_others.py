from taskorch import TaskOrchestrator, task


@task(retries=2, timeout=60)
def fetch(page):
    return f"text of {page}"


@task
def count(text):
    return len(text)


with TaskOrchestrator():
    text = fetch.submit("a.html")
    print(count.submit(text).result())  # the handle stands for its result
    print(list(fetch.map(["b.html", "c.html"])))
    print(fetch.options(priority=5).submit("d.html").result())
