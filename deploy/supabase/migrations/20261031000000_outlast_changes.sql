-- Outlast 0: how this SQL changes a live database, so that it can be applied while the application and workers run.
--
-- What is in place is left alone: every change first reads the catalogue, because `alter table`, `create index if not
-- exists` and their like lock a table even when they have nothing to do. Applied a second time, the SQL takes no lock
-- that a reader or a writer waits for.
--
-- A change locks all of Outlast's tables and the generations table at once (outlast_lock_tables), and holds no lock
-- while it waits for another for longer than a moment. So it cannot deadlock with a function, in whatever order that
-- takes its locks.
--
-- Policies are created by the last file, in a transaction of their own: on Supabase, `create policy` locks tables of
-- `auth` and `storage` until the transaction ends.

-- One session at a time applies the SQL. outlast_start_change does the same for the other files.
do $$
begin
  perform set_config('lock_timeout', '10s', true);
  perform pg_advisory_xact_lock(hashtextextended('outlast:install', 0));
exception when lock_not_available then
  raise exception 'outlast: another session is applying this SQL'
    using errcode = 'lock_not_available', hint = 'This transaction changed nothing. Apply the SQL again later.';
end $$;

-- Waits until no other session applies the SQL, and limits the time for which later statements wait for a lock. Both
-- hold until the transaction ends.
create or replace function public.outlast_start_change() returns void
language plpgsql security definer set search_path = '' as $$
begin
  perform set_config('lock_timeout', '10s', true);
  perform pg_advisory_xact_lock(hashtextextended('outlast:install', 0));
  perform set_config('lock_timeout', '3s', true);
exception when lock_not_available then
  raise exception 'outlast: another session is applying this SQL'
    using errcode = 'lock_not_available', hint = 'This transaction changed nothing. Apply the SQL again later.';
end $$;

-- The tables to lock before a change: Outlast's, in the lock order of outlast_finish, and those with its triggers.
create or replace function public.outlast_live_tables() returns setof regclass
language plpgsql stable security definer set search_path = '' as $$
begin
  return query
    select c.oid::regclass from pg_class c
      where relnamespace = 'public'::regnamespace and relkind = 'r' and starts_with(relname, 'outlast_')
      order by array_position(array['outlast_tasks', 'outlast_objects', 'outlast_files']::name[], relname), relname;
  return query
    select distinct t.tgrelid::regclass from pg_trigger t join pg_proc p on p.oid = t.tgfoid
      where p.pronamespace = 'public'::regnamespace
        and p.proname in ('outlast_notify', 'outlast_note_deletions', 'outlast_keep_media')
        and t.tgparentid = 0;
end $$;

-- Locks these tables, and `p_bound`, against all other sessions until the transaction ends. An attempt waits at most
-- 200 ms for a table, which is shorter than PostgreSQL's deadlock_timeout, and then releases all tables. So other
-- sessions never wait longer for an attempt, and never fail because of one.
create or replace function public.outlast_lock_tables(p_bound regclass default null) returns void
language plpgsql security definer set search_path = '' set lock_timeout = '200ms' as $$
declare
  v_until timestamptz := clock_timestamp() + interval '5 s';
  v_tables text[] := array(select t::text from public.outlast_live_tables() t);
begin
  if p_bound is not null and p_bound::text <> all (v_tables) then
    v_tables := v_tables || p_bound::text;
  end if;
  loop
    begin
      execute format('lock table %s in access exclusive mode', array_to_string(v_tables, ', '));
      return;
    exception when lock_not_available or deadlock_detected then
      if clock_timestamp() > v_until then
        raise exception 'outlast: these tables could not be locked, because other sessions use them: %',
          array_to_string(v_tables, ', ') using errcode = 'lock_not_available',
          hint = 'This transaction changed nothing. Apply the SQL again. pg_stat_activity shows long transactions.';
      end if;
    end;
    perform pg_sleep(0.1);
  end loop;
end $$;

drop function if exists public.outlast_add_index(text, text);  -- of a pre-release version

-- Creates an index, `p_on` being its table and columns. Writes wait while it is built: a second per million rows.
create or replace function public.outlast_add_index(p_name text, p_on text, p_unique boolean default false) returns void
language plpgsql security definer set search_path = '' as $$
begin
  if to_regclass(format('public.%I', p_name)) is null then
    perform public.outlast_lock_tables();
    execute format('create %s index %I on public.%s', case when p_unique then 'unique' end, p_name, p_on);
  end if;
end $$;

create or replace function public.outlast_add_column(p_table regclass, p_name name, p_type text) returns void
language plpgsql security definer set search_path = '' as $$
begin
  if not exists (select from pg_attribute where attrelid = p_table and attname = p_name and not attisdropped) then
    perform public.outlast_lock_tables(p_table);
    execute format('alter table %s add column %I %s', p_table, p_name, p_type);
  end if;
end $$;

create or replace function public.outlast_add_trigger(p_table regclass, p_name name, p_definition text) returns void
language plpgsql security definer set search_path = '' as $$
begin
  if not exists (select from pg_trigger where tgrelid = p_table and tgname = p_name) then
    perform public.outlast_lock_tables(p_table);
    execute format('create trigger %I %s', p_name, p_definition);
  end if;
end $$;

-- Enables row-level security, and reserves the table for the service role. By default Supabase grants all privileges on
-- new tables to anon and authenticated. With `p_readable`, signed-in users may select the rows that a policy allows.
create or replace function public.outlast_protect_table(p_table regclass, p_readable boolean default false)
returns void language plpgsql security definer set search_path = '' as $$
begin
  if not (select relrowsecurity from pg_class where oid = p_table) then
    perform public.outlast_lock_tables(p_table);
    execute format('alter table %s enable row level security', p_table);
  end if;
  if exists (select from pg_class c, aclexplode(c.relacl) a where c.oid = p_table
      and a.grantee in (0, 'anon'::regrole, 'authenticated'::regrole)
      and not (p_readable and a.grantee = 'authenticated'::regrole and a.privilege_type = 'SELECT')) then
    execute format('revoke all on %s from public, anon, authenticated', p_table);
  end if;
  if not (select bool_and(has_table_privilege('service_role', p_table, privilege)) from unnest(array[
      'select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']) as privilege) then
    execute format('grant all on %s to service_role', p_table);
  end if;
  if p_readable and not has_table_privilege('authenticated', p_table, 'select') then
    execute format('grant select on %s to authenticated', p_table);
  end if;
end $$;

revoke all on function public.outlast_start_change(), public.outlast_live_tables(),
  public.outlast_lock_tables(regclass), public.outlast_add_index(text, text, boolean),
  public.outlast_add_column(regclass, name, text), public.outlast_add_trigger(regclass, name, text),
  public.outlast_protect_table(regclass, boolean) from public, anon, authenticated, service_role;
