-- Creates what a hosted Supabase project has before Outlast is installed: roles, default privileges, the schemas auth,
-- storage and net, and a generations table as an application would have it. It can be applied again. Only the local
-- stack and the tests use this file.

do $$
begin
  if to_regrole('anon') is null then create role anon nologin noinherit; end if;
  if to_regrole('authenticated') is null then create role authenticated nologin noinherit; end if;
  if to_regrole('service_role') is null then create role service_role nologin noinherit bypassrls; end if;
  if to_regrole('authenticator') is null then create role authenticator login noinherit; end if;
  grant anon, authenticated, service_role to authenticator;
end $$;

-- Supabase's default privileges: all roles have all privileges on new objects in `public`, unless they are revoked.
-- Only row-level security restricts access.
grant usage on schema public to postgres, anon, authenticated, service_role;
alter default privileges in schema public grant all on tables to postgres, anon, authenticated, service_role;
alter default privileges in schema public grant all on functions to postgres, anon, authenticated, service_role;
alter default privileges in schema public grant all on sequences to postgres, anon, authenticated, service_role;

create schema if not exists extensions;
grant usage on schema extensions to postgres, anon, authenticated, service_role;
create extension if not exists pgcrypto with schema extensions;

do $$
begin
  if not exists (select from pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
end $$;

-- auth: the caller's identity, read from the token claims that the gateway sets on its connection.
create schema if not exists auth;
grant usage on schema auth to postgres, anon, authenticated, service_role;

create or replace function auth.jwt() returns jsonb language sql stable as $$
  select nullif(current_setting('request.jwt.claims', true), '')::jsonb
$$;

create or replace function auth.uid() returns uuid language sql stable as $$
  select (auth.jwt() ->> 'sub')::uuid
$$;

create or replace function auth.role() returns text language sql stable as $$
  select auth.jwt() ->> 'role'
$$;

-- storage: the tables of the Storage API for buckets and objects.
create schema if not exists storage;
grant usage on schema storage to postgres, anon, authenticated, service_role;

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

alter table storage.buckets enable row level security;
alter table storage.objects enable row level security;
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

-- The application's own table. Signed-in users read their rows, the application's backend writes them.
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
alter table public.generations add column if not exists model text;  -- for a table created by an earlier version

alter table public.generations enable row level security;
drop policy if exists "owners read their generations" on public.generations;
create policy "owners read their generations" on public.generations
  for select to authenticated using (user_id = (select auth.uid()));
