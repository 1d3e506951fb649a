"""The event log on Redis Streams: names, envelope, codec, groups, channel, dead letters."""
