-- Outlast 21: the policies for signed-in users, on Outlast's tables and on the bucket. This is the last file: it must
-- be a transaction of its own, because on Supabase `create policy` locks auth.users, auth.refresh_tokens,
-- storage.objects, storage.buckets and others until the transaction ends, so that sign-ins and uploads wait.
--
-- Users are identified by the claim `sub`, not by auth.uid(), which fails for an id that is no uuid.

select public.outlast_start_change();

-- SQL for the folder of the user with the claim `sub`: the id, with each byte of a character that object names cannot
-- have as `=XX`. A long id is replaced by its hash. `folder_name` in handlers/storage does the same.
create or replace function public.outlast_folder_sql() returns text
language sql immutable security definer set search_path = '' as $$
  select $sql$(select case when u.sub = 'anonymous' then '=61nonymous' when length(f.folder) <= 200 then f.folder
      else 'u-' || left(encode(sha256(convert_to(u.sub, 'UTF8')), 'hex'), 32) end
    from (select auth.jwt() ->> 'sub' as sub) u, lateral (
      select string_agg(case when c.value ~ '^[A-Za-z0-9_@+:.-]$' and (c.value <> '.' or c.n > 1) then c.value else
        regexp_replace(upper(encode(convert_to(c.value, 'UTF8'), 'hex')), '(..)', '=\1', 'g') end, '' order by c.n)
        as folder from regexp_split_to_table(u.sub, '') with ordinality as c (value, n)) f)$sql$
$$;

-- The policies, and whether each is in place. A policy is recognised by the claim and the buckets in its expression.
create or replace function public.outlast_policies_wanted(
  out name text, out rel regclass, out condition text, out in_place boolean
) returns setof record language plpgsql stable security definer set search_path = '' as $$
declare
  v_user text := '(select auth.jwt() ->> ''sub'')';
  v_buckets text := array(select b.name from public.outlast_buckets() b where not b.in_folders);
  v_others text := array(select b.name from public.outlast_buckets() b where b.in_folders);
begin
  return query
    select w.name, w.rel, w.condition, exists (
      select from pg_policy p, pg_get_expr(p.polqual, p.polrelid) as expression
      where p.polrelid = w.rel and p.polname = w.name and strpos(expression, 'auth.jwt()') > 0
        and strpos(expression, w.mark) > 0 and strpos(expression, w.second_mark) > 0
        and (w.name not like 'outlast: %' or strpos(expression, 'f.variants') > 0))
    from (values
      ('users read their own tasks', 'public.outlast_tasks'::regclass, 'user_id = ' || v_user, 'user_id', 'user_id'),
      ('users read their own files', 'public.outlast_files'::regclass, 'user_id = ' || v_user, 'user_id', 'user_id'),
      ('outlast: users read their own folder', to_regclass('storage.objects'),
        format('(bucket_id = any (%L::text[]) and (storage.foldername(name))[1] = %s) or (bucket_id = any (%L::text[])'
          ' and exists (select from public.outlast_files f where f.bucket = bucket_id and (f.path = objects.name'
          ' or f.variants @> jsonb_build_array(jsonb_build_object(''path'', objects.name))) and f.user_id = %s))', v_buckets, public.outlast_folder_sql(), v_others, v_user),
        format('''%s''', replace(v_buckets, '''', '''''')), format('''%s''', replace(v_others, '''', '''''')))
    ) as w (name, rel, condition, mark, second_mark) where w.rel is not null;
end $$;

-- Creates the policies that are missing or were created for another bucket. An attempt waits at most 200 ms for a lock
-- and then releases all of them, like outlast_lock_tables. Outlast's tables are locked first, as in outlast_finish,
-- which reads storage.objects after them.
create or replace function public.outlast_install_policies() returns void
language plpgsql security definer set search_path = '' set lock_timeout = '200ms' as $$
declare
  v_until timestamptz := clock_timestamp() + interval '5 s';
  w record;
begin
  while exists (select from public.outlast_policies_wanted() where not in_place) loop
    begin
      execute coalesce((
        select 'lock table ' || string_agg(p.rel::text, ', ' order by p.rel::text desc) || ' in access exclusive mode'
        from public.outlast_policies_wanted() p
        where not p.in_place and p.rel is distinct from to_regclass('storage.objects')), 'select');
      for w in select * from public.outlast_policies_wanted() where not in_place loop
        begin
          execute format('drop policy if exists %I on %s', w.name, w.rel);
          execute format('create policy %I on %s for select to authenticated using (%s)', w.name, w.rel, w.condition);
        exception when insufficient_privilege then
          raise warning 'outlast: this role may not set up Storage, so users cannot read their own files there: %',
            sqlerrm;
        end;
      end loop;
      return;
    exception when lock_not_available or deadlock_detected then
      if clock_timestamp() > v_until then
        raise exception 'outlast: the policies could not be created, because other sessions use the tables of Outlast, '
          'auth or storage' using errcode = 'lock_not_available',
          hint = 'This transaction changed nothing. Run again: select public.outlast_install_storage();';
      end if;
    end;
    perform pg_sleep(0.1);
  end loop;
end $$;

-- Creates the policies: a signed-in user reads their own tasks, files, and objects in the buckets of all bindings, so
-- that a front end can create signed URLs. Only the service role can write there. With `p_make_bucket`, missing buckets
-- are created. Run it in a transaction of its own.
create or replace function public.outlast_install_storage(p_make_bucket boolean default false) returns void
language plpgsql security definer set search_path = '' as $$
declare
  b record;
begin
  perform public.outlast_start_change();
  perform public.outlast_install_policies();
  if p_make_bucket and to_regclass('storage.buckets') is not null then
    for b in select * from public.outlast_buckets() loop
      insert into storage.buckets (id, name, public) select b.name, b.name, b.is_public
        where not exists (select from storage.buckets o where o.id = b.name) on conflict do nothing;
      if b.is_public and exists (select from storage.buckets o where o.id = b.name and o.public is not true) then
        raise warning 'outlast: the bucket % is private; make it public in Storage, or leave out --public-bucket', b.name;
      end if;
    end loop;
  end if;
exception when insufficient_privilege then
  raise warning 'outlast: this role may not create the bucket: %', sqlerrm;
end $$;

revoke all on function public.outlast_policies_wanted(), public.outlast_install_policies(), public.outlast_folder_sql(),
  public.outlast_install_storage(boolean) from public, anon, authenticated, service_role;

insert into public.outlast_settings (key, value) values ('version', '20261129000021')
  on conflict (key) do update set value = excluded.value;

notify pgrst, 'reload schema';

select public.outlast_install_storage();
