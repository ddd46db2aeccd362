-- Creates what a hosted Supabase project has before Outlast is installed: roles, default privileges, the schemas auth,
-- storage and net, and a generations table as an application would have it. It can be applied again, and leaves alone
-- what is in place. Only the local stack and the tests use this file.
--
-- The superuser applies it. Afterwards the session has the role `postgres`, which owns the application's tables, is no
-- superuser, and owns nothing in `auth`, `storage` and `net`.

set role none;

do $$
begin
  if to_regrole('anon') is null then create role anon nologin noinherit; end if;
  if to_regrole('authenticated') is null then create role authenticated nologin noinherit; end if;
  if to_regrole('service_role') is null then create role service_role nologin noinherit bypassrls; end if;
  if to_regrole('authenticator') is null then create role authenticator login noinherit; end if;
  if to_regrole('supabase_auth_admin') is null then create role supabase_auth_admin nologin; end if;
  if to_regrole('supabase_storage_admin') is null then create role supabase_storage_admin nologin; end if;
  grant anon, authenticated, service_role to authenticator, postgres;
  -- The extension supautils lets `postgres` create policies on tables that it does not own; here, this membership does.
  -- The event trigger local_ownership refuses everything else that an owner may do.
  grant supabase_storage_admin to postgres;
  execute format('alter database %I owner to postgres', current_database());
end $$;

-- Supabase's default privileges: all roles have all privileges on new objects in `public`, unless they are revoked.
-- Only row-level security restricts access.
grant usage on schema public to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on sequences to postgres, anon, authenticated, service_role;

create schema if not exists extensions;
grant usage on schema extensions to postgres, anon, authenticated, service_role;
create extension if not exists pgcrypto with schema extensions;

do $$
begin
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
    alter publication supabase_realtime owner to postgres;
  end if;
end $$;

-- auth: the caller's identity, read from the token claims that the gateway sets on its connection.
create schema if not exists auth;
grant usage on schema auth to postgres, anon, authenticated, service_role, supabase_auth_admin;

create or replace function auth.jwt() returns jsonb language sql stable as $$
  select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;

create or replace function auth.uid() returns uuid language sql stable as $$
  select (auth.jwt() ->> 'sub')::uuid
$$;

create or replace function auth.role() returns text language sql stable as $$
  select auth.jwt() ->> 'role'
$$;

create table if not exists auth.users (
  id uuid primary key default gen_random_uuid(),
  email text,
  created_at timestamptz default now()
);

create table if not exists auth.refresh_tokens (
  id bigint primary key generated always as identity,
  user_id uuid references auth.users (id) on delete cascade,
  token text
);

grant all on auth.users, auth.refresh_tokens to postgres;

-- storage: the tables of the Storage API for buckets and objects.
create schema if not exists storage;
grant usage on schema storage to postgres, anon, authenticated, service_role, supabase_storage_admin;

create table if not exists storage.buckets (
  id text primary key,
  name text not null unique,
  owner uuid,
  public boolean default false,
  file_size_limit bigint,
  allowed_mime_types text[],
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);

create table if not exists storage.objects (
  id uuid primary key default gen_random_uuid(),
  bucket_id text references storage.buckets (id),
  name text,
  owner uuid,
  metadata jsonb,
  version text,
  user_metadata jsonb,
  created_at timestamptz default now(),
  updated_at timestamptz default now(),
  last_accessed_at timestamptz default now(),
  unique (bucket_id, name)
);

-- The folders of an object's name, `{user,ab}` for `user/ab/name.jpg`. Policies on storage.objects use it.
create or replace function storage.foldername(name text) returns text[] language sql immutable as $$
  select (string_to_array(name, '/'))[:array_length(string_to_array(name, '/'), 1) - 1]
$$;

do $$
declare
  v record;
begin
  for v in select c.oid::regclass as rel, owner, relrowsecurity from pg_class c
      join (values ('auth', 'supabase_auth_admin'), ('storage', 'supabase_storage_admin')) as o (schema, owner)
        on o.schema = relnamespace::regnamespace::text
      where relkind = 'r' and (relowner <> owner::regrole or not relrowsecurity) loop
    execute format('alter table %s owner to %I', v.rel, v.owner);
    execute format('alter table %s enable row level security', v.rel);
  end loop;
end $$;

grant all on storage.buckets, storage.objects to postgres, anon, authenticated, service_role;

-- net: a replacement for the extension pg_net. As in pg_net, the tables are unlogged, so a crash of the database loses
-- queued requests.
create schema if not exists net;
grant usage on schema net to postgres, anon, authenticated, service_role;

create unlogged table if not exists net.http_request_queue (
  id bigserial primary key,
  method text not null,
  url text not null,
  headers jsonb,
  body bytea,
  timeout_milliseconds int not null
);

create unlogged table if not exists net._http_response (
  id bigint,
  status_code int,
  content_type text,
  headers jsonb,
  content text,
  timed_out boolean,
  error_msg text,
  created timestamptz not null default now()
);

create or replace function net.http_post(
  url text,
  body jsonb default '{}',
  params jsonb default '{}',
  headers jsonb default '{"Content-Type": "application/json"}',
  timeout_milliseconds int default 5000
) returns bigint language plpgsql security definer set search_path = '' as $$
declare
  v_id bigint;
begin
  if params <> '{}' then
    raise exception 'the local replacement for pg_net does not support params';
  end if;
  insert into net.http_request_queue (method, url, headers, body, timeout_milliseconds)
  values ('POST', http_post.url, http_post.headers, convert_to(http_post.body::text, 'UTF8'),
          http_post.timeout_milliseconds)
  returning id into v_id;
  perform pg_notify('net_http', '');
  return v_id;
end $$;

grant all on all tables in schema net to postgres;
grant all on all sequences in schema net to postgres;

-- As observed of the extension supautils: the first `create policy` of a transaction locks tables of Auth and Storage
-- until the transaction ends.
create or replace function extensions.local_supautils() returns event_trigger language plpgsql as $$
begin
  if current_user = 'postgres' then
    lock table auth.users, auth.refresh_tokens, storage.objects, storage.buckets in access exclusive mode;
  end if;
end $$;

-- `postgres` may only create, alter and drop policies on the tables of Auth and Storage.
create or replace function extensions.local_ownership() returns event_trigger language plpgsql as $$
declare
  v record;
begin
  for v in select object_identity, command_tag from pg_event_trigger_ddl_commands()
      where current_user = 'postgres'
        and (schema_name in ('auth', 'storage') or object_identity ~ ' on (auth|storage)[.]')
        and command_tag not in ('CREATE POLICY', 'ALTER POLICY') loop
    raise exception 'must be owner of % (%)', v.object_identity, v.command_tag using errcode = 'insufficient_privilege';
  end loop;
end $$;

do $$
begin
  if not exists (select from pg_event_trigger where evtname = 'local_supautils') then
    create event trigger local_supautils on ddl_command_start when tag in ('CREATE POLICY')
      execute function extensions.local_supautils();
    create event trigger local_ownership on ddl_command_end
      execute function extensions.local_ownership();
  end if;
end $$;

-- The application's own table. Signed-in users read their rows, the application's backend writes them.
set role postgres;

create table if not exists public.generations (
  id uuid primary key default gen_random_uuid(),
  user_id uuid,
  prompt text,
  status text default 'pending',
  output jsonb,
  request_id text,
  model text,
  created_at timestamptz default now(),
  updated_at timestamptz default now()
);

do $$
begin
  if not exists (select from pg_policies where schemaname = 'public' and tablename = 'generations') then
    alter table public.generations add column if not exists model text;  -- a table of an earlier version lacks it
    alter table public.generations enable row level security;
    create policy "owners read their generations" on public.generations
      for select to authenticated using (user_id = (select auth.uid()));
  end if;
end $$;
