"""PostgreSQL and Redis for one machine: folders and commands. Running the commands is the supervisor's business."""
