-- Generations belong to a project, and the project to a user.
create table projects (id bigint primary key generated always as identity, owner_id uuid);
create table generations (
  id uuid primary key default gen_random_uuid(),
  project_id bigint references projects,
  status text default 'pending',
  output jsonb,
  request_id text,
  created_at timestamptz default now()
);
