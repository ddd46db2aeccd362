-- Outlast 1: tables. Every migration can be applied again: a second run changes no data.
--
-- Generation ids and user ids are stored as text, because an application's own columns may be uuid, bigint or text. No
-- foreign key references the application's tables. A signed-in user can read their own tasks and files. Everything else
-- is reserved for the service role.

select public.outlast_start_change();

create schema if not exists extensions;
create extension if not exists pgcrypto with schema extensions;

create table if not exists public.outlast_settings (
  key text primary key,
  value text
);

create table if not exists public.outlast_tasks (
  task_id uuid primary key,
  binding text not null default 'generations',
  generation_id text,
  request_id text,
  user_id text,
  source text,
  queue text,
  status text not null default 'queued' check (
    status in ('queued', 'running', 'retrying', 'completed', 'partial', 'failed', 'cancelled')
  ),
  positions int[] not null default '{}',  -- positions of the files in the output; same order as source_keys
  source_keys text[] not null default '{}',
  files jsonb,  -- what media says of each file before it is stored, also of skipped files, which have a code
  total_files int not null default 0,
  output_key text,
  profile text,
  event_at timestamptz not null default now(),
  attempt int not null default 0,
  lease uuid,
  last_lease uuid,  -- lease that was recorded last, to detect a repeated call
  lease_until timestamptz,
  worker text,
  progress jsonb,
  result jsonb,
  failed jsonb not null default '[]',  -- files that failed and have not been stored since then
  error text,
  error_code text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  started_at timestamptz,
  finished_at timestamptz
);

select public.outlast_add_index(name, on_columns) from (values
  ('outlast_tasks_generation', 'outlast_tasks (generation_id)'),
  ('outlast_tasks_status', 'outlast_tasks (status, updated_at)'),
  ('outlast_tasks_request', 'outlast_tasks (request_id)'),
  ('outlast_tasks_lease', 'outlast_tasks (lease) where lease is not null'),
  ('outlast_tasks_last_lease', 'outlast_tasks (last_lease) where last_lease is not null'),
  ('outlast_tasks_user_newest', 'outlast_tasks (user_id, created_at, task_id)')
) as i (name, on_columns);

-- A pre-release index, replaced by outlast_tasks_user_newest.
do $$
begin
  if to_regclass('public.outlast_tasks_user') is not null then
    perform public.outlast_lock_tables();
    drop index public.outlast_tasks_user;
  end if;
end $$;

create table if not exists public.outlast_files (
  id uuid primary key,
  binding text not null default 'generations',
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
  updated_at timestamptz not null default now()
);

-- Tables created by a pre-release version have no such columns.
select public.outlast_add_column('public.outlast_files', 'frames', 'int');
select public.outlast_add_column('public.outlast_files', 'variants', 'jsonb');
select public.outlast_add_column('public.outlast_files', 'quality', 'int');
select public.outlast_add_column('public.outlast_tasks', 'files', 'jsonb');
select public.outlast_add_column('public.outlast_tasks', 'binding', 'text not null default ''generations''');
select public.outlast_add_column('public.outlast_files', 'binding', 'text not null default ''generations''');

-- Tables of earlier versions also have a constraint without the binding. It is dropped with the second binding, because
-- calls that are under way during an upgrade still need it.
select public.outlast_add_index('outlast_files_source', 'outlast_files (binding, generation_id, source_key)', true);

select public.outlast_add_index(name, on_columns) from (values
  ('outlast_files_known', 'outlast_files (source_sha256, profile, user_id)'),
  ('outlast_files_object', 'outlast_files (bucket, path)')
) as i (name, on_columns);

create table if not exists public.outlast_objects (
  bucket text not null,
  path text not null,
  user_id text,
  sha256 text,
  file_size bigint,
  content_type text,
  refs int not null default 0 check (refs >= 0),  -- number of rows in outlast_files that reference this object
  state text not null default 'live' check (state in ('live', 'deleting')),
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (bucket, path)
);

create table if not exists public.outlast_workers (
  worker text primary key,
  started_at timestamptz not null default now(),
  last_seen timestamptz not null default now(),
  stats jsonb not null default '{}'
);

-- Generations that were completed after the installation, although their rows do not look young.
create table if not exists public.outlast_late_rows (
  binding text not null default 'generations',
  generation_id text not null,
  noted_at timestamptz not null default now(),
  primary key (binding, generation_id)
);

-- A table created by a pre-release version has another primary key.
do $$
begin
  if not exists (select from pg_attribute
      where attrelid = 'public.outlast_late_rows'::regclass and attname = 'binding') then
    perform public.outlast_lock_tables();
    alter table public.outlast_late_rows add column binding text not null default 'generations',
      drop constraint outlast_late_rows_pkey, add primary key (binding, generation_id);
  end if;
end $$;

-- The last file creates the policies for signed-in users.
select public.outlast_protect_table('public.outlast_settings');
select public.outlast_protect_table('public.outlast_tasks', p_readable => true);
select public.outlast_protect_table('public.outlast_files', p_readable => true);
select public.outlast_protect_table('public.outlast_objects');
select public.outlast_protect_table('public.outlast_workers');
select public.outlast_protect_table('public.outlast_late_rows');

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
  ('bucket', 'generations'),
  ('webhook_url', null),
  ('webhook_secret', null),
  ('webhook_timeout_ms', '5000')
on conflict (key) do nothing;
