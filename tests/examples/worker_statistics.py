"""List the workers and their active tasks.

python tests/examples/worker_statistics.py
"""

from worker.background_tasks import task_manager


def main() -> None:
    stats = task_manager.get_worker_stats()
    print(f"active workers: {len(stats['workers'])}")
    print(f"active tasks: {sum(map(len, stats['active_tasks'].values()))}")
    for name, worker in stats["workers"].items():
        print(f"{name}: {worker['concurrency']}, last seen {worker['last_seen']}")


if __name__ == "__main__":
    main()
