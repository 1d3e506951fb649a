-- Which stages pause because a service is away (their gate is closed); NULL: nobody has said so.
ALTER TABLE service_states ADD COLUMN paused_stages text[];
