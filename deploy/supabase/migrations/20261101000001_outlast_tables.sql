-- Outlast 1: tables. Every migration can be applied again: a second run changes no data.
--
-- Generation ids and user ids are stored as text, because an application's own columns may be uuid, bigint or text. No
-- foreign key references the application's tables. A signed-in user can read their own tasks and files. Everything else
-- is reserved for the service role.

create schema if not exists extensions;
create extension if not exists pgcrypto with schema extensions;

create table if not exists public.outlast_settings (
  key text primary key,
  value text
);

create table if not exists public.outlast_tasks (
  task_id uuid primary key,
  generation_id text,
  request_id text,
  user_id text,
  source text,
  queue text,
  status text not null default 'queued' check (
    status in ('queued', 'running', 'retrying', 'completed', 'partial', 'failed', 'cancelled')
  ),
  positions int[] not null default '{}',
  source_keys text[] not null default '{}',
  total_files int not null default 0,
  output_key text,
  profile text,
  event_at timestamptz not null default now(),
  attempt int not null default 0,
  lease uuid,
  last_lease uuid,
  lease_until timestamptz,
  worker text,
  progress jsonb,
  result jsonb,
  failed jsonb not null default '[]',
  error text,
  error_code text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz
);

comment on column public.outlast_tasks.positions is 'positions of the files in the output; same order as source_keys';
comment on column public.outlast_tasks.last_lease is 'lease that was recorded last, to detect a repeated call';
comment on column public.outlast_tasks.failed is 'files that failed and have not been stored since then';

create index if not exists outlast_tasks_generation on public.outlast_tasks (generation_id);
create index if not exists outlast_tasks_status on public.outlast_tasks (status, updated_at);
create index if not exists outlast_tasks_request on public.outlast_tasks (request_id);
create index if not exists outlast_tasks_lease on public.outlast_tasks (lease) where lease is not null;
create index if not exists outlast_tasks_last_lease on public.outlast_tasks (last_lease) where last_lease is not null;
create index if not exists outlast_tasks_user_newest on public.outlast_tasks (user_id, created_at, task_id);
drop index if exists public.outlast_tasks_user;  -- pre-release index, replaced by outlast_tasks_user_newest

create table if not exists public.outlast_files (
  id uuid primary key,
  generation_id text not null,
  source_key text not null,
  task_id uuid,
  user_id text,
  position int not null default 0,
  original_filename text,
  original_size bigint,
  file_size bigint,
  content_type text,
  bucket text not null,
  path text not null,
  sha256 text,
  width int,
  height int,
  duration double precision,
  frames int,
  thumbhash text,
  source_url text,
  source_sha256 text,
  profile text,
  deduplicated boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (generation_id, source_key)
);

-- A table created by a pre-release version has no such column.
alter table public.outlast_files add column if not exists frames int;

create index if not exists outlast_files_known on public.outlast_files (source_sha256, profile, user_id);
create index if not exists outlast_files_object on public.outlast_files (bucket, path);

create table if not exists public.outlast_objects (
  bucket text not null,
  path text not null,
  user_id text,
  sha256 text,
  file_size bigint,
  content_type text,
  refs int not null default 0 check (refs >= 0),
  state text not null default 'live' check (state in ('live', 'deleting')),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (bucket, path)
);

comment on column public.outlast_objects.refs is 'number of rows in outlast_files that reference this object';

create table if not exists public.outlast_workers (
  worker text primary key,
  started_at timestamptz not null default now(),
  last_seen timestamptz not null default now(),
  stats jsonb not null default '{}'
);

alter table public.outlast_settings enable row level security;
alter table public.outlast_tasks enable row level security;
alter table public.outlast_files enable row level security;
alter table public.outlast_objects enable row level security;
alter table public.outlast_workers enable row level security;

-- By default Supabase grants all privileges on new tables to anon and authenticated, so revoke them first.
revoke all on public.outlast_settings, public.outlast_tasks, public.outlast_files, public.outlast_objects,
  public.outlast_workers from public, anon, authenticated;
grant all on public.outlast_settings, public.outlast_tasks, public.outlast_files, public.outlast_objects,
  public.outlast_workers to service_role;
grant select on public.outlast_tasks, public.outlast_files to authenticated;

drop policy if exists "users read their own tasks" on public.outlast_tasks;
create policy "users read their own tasks" on public.outlast_tasks
  for select to authenticated using (user_id = (select auth.uid())::text);

drop policy if exists "users read their own files" on public.outlast_files;
create policy "users read their own files" on public.outlast_files
  for select to authenticated using (user_id = (select auth.uid())::text);

-- Publish tasks and files to Realtime, so that a front end can follow progress. Skipped where the project has no
-- publication `supabase_realtime`, or where it covers all tables already.
do $$
declare
  v_table text;
begin
  foreach v_table in array array['outlast_tasks', 'outlast_files'] loop
    if exists (select from pg_publication where pubname = 'supabase_realtime' and not puballtables)
      and not exists (
        select from pg_publication_tables
        where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = v_table
      )
    then
      execute format('alter publication supabase_realtime add table public.%I', v_table);
    end if;
  end loop;
end $$;

insert into public.outlast_settings (key, value) values
  ('generations_schema', 'public'),
  ('generations_table', 'generations'),
  ('id_column', 'id'),
  ('user_column', 'user_id'),
  ('status_column', 'status'),
  ('output_column', 'output'),
  ('request_column', 'request_id'),
  ('created_column', 'created_at'),
  ('completed_value', 'completed'),
  ('bucket', 'generations'),
  ('webhook_url', null),
  ('webhook_secret', null),
  ('webhook_timeout_ms', '5000')
on conflict (key) do nothing;
