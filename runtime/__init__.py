"""Process plumbing that knows nothing of cameras: settings, logs, services, embedded servers."""
