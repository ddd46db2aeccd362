-- Outlast: which rows are from before the installation. The time of the installation is that of the binding.
--
-- The sweep leaves rows from before the installation alone; `outlast adopt` takes them. A row is young when its creation
-- time is not before the installation. The trigger notes a row that is completed after the installation although it is
-- not young: an update completes it, or its age is unknown, because it has no creation time or an impossible one. The
-- sweep takes young and noted rows.

select public.outlast_start_change();

-- Whether the column with the creation time has a type of date and time.
create or replace function public.outlast_created_is_time(p_binding text) returns boolean
language plpgsql stable security definer set search_path = '' as $$
begin
  return exists (
    select from public.outlast_bound(p_binding) g
    join pg_attribute a on a.attrelid = g.rel and a.attname = g.created_name
    where a.atttypid in ('date'::regtype, 'timestamp'::regtype, 'timestamptz'::regtype));
end $$;

-- When the table was bound; -infinity for an installation by a version that took rows of every age.
create or replace function public.outlast_installed_at(p_binding text) returns timestamptz
language plpgsql stable security definer set search_path = '' as $$
begin
  return coalesce((select installed_at from public.outlast_bindings where name = p_binding), '-infinity');
end $$;

-- Records this moment as the binding's installation, if its table has neither Outlast's triggers nor a column that
-- Outlast added.
create or replace function public.outlast_note_installation(p_binding text, p_table regclass) returns void
language plpgsql security definer set search_path = '' as $$
begin
  if not exists (select from pg_trigger where tgrelid = p_table and tgfoid = 'public.outlast_notify'::regproc)
    and not exists (select from pg_attribute where attrelid = p_table and not attisdropped
      and col_description(attrelid, attnum) like 'Outlast: %') then
    update public.outlast_bindings set installed_at = clock_timestamp() where name = p_binding;
    delete from public.outlast_late_rows where binding = p_binding;
  end if;
end $$;

-- Called by the trigger for a row that becomes completed, by an update or (not `p_updated`) by its insert: notes it
-- unless it is young, or was inserted with a time from before the installation, as an import of old rows is. `p_created`
-- is null for an unknown age. An error must not fail the statement, and must not stop the webhook.
create or replace function public.outlast_note_late_row(
  p_binding text, p_installed timestamptz, p_id text, p_created text, p_updated boolean
) returns void language plpgsql security definer set search_path = '' as $$
begin
  if (p_created::timestamptz >= p_installed) is not true and p_installed > '-infinity' and length(p_id) <= 256
    and (p_updated or (p_created::timestamptz > '0001-01-02') is not true)
  then
    insert into public.outlast_late_rows (binding, generation_id) values (p_binding, p_id)
      on conflict (binding, generation_id) do nothing;
  end if;
exception when others then
  raise warning 'outlast: the sweep will not find this generation: % (SQLSTATE %)', sqlerrm, sqlstate;
end $$;

-- Removes the notes of rows that need no sweep any more, of removed bindings, and those older than 30 days.
create or replace function public.outlast_forget_late_rows() returns void
language plpgsql security definer set search_path = '' as $$
declare
  g record;
  v_where text;
begin
  delete from public.outlast_late_rows l where l.noted_at < now() - interval '30 days'
    or not exists (select from public.outlast_bindings b where b.name = l.binding);
  for g in select o.* from public.outlast_bindings b, public.outlast_bound(b.name) o
      where exists (select from public.outlast_late_rows l where l.binding = b.name) loop
    v_where := public.outlast_unheard_where(g.binding);
    continue when v_where is null;
    execute format('delete from public.outlast_late_rows l where l.binding = %L and not exists (select from %s g'
      ' where g.%I::text = l.generation_id and %s)', g.binding, g.rel, g.id_name, v_where);
  end loop;
end $$;

-- The SQL condition for rows (alias `g`) with a creation time: young ones or, with `p_past`, older ones, created within
-- the given time. Null if there are none. If the creation time is of another type, the age of every row is unknown:
-- none is young, and all are old.
create or replace function public.outlast_age_where(
  p_binding text, p_past boolean, p_since timestamptz, p_until timestamptz
) returns text language plpgsql stable security definer set search_path = '' as $$
declare
  v_installed timestamptz := public.outlast_installed_at(p_binding);
  v_created text := (select format('g.%I', g.created_name) from public.outlast_bound(p_binding) g
    where g.created_name is not null);
  v_where text := v_created || ' is not null';
begin
  if not public.outlast_created_is_time(p_binding) then
    return case when p_past = (v_installed > '-infinity') and not (p_past and num_nonnulls(p_since, p_until) > 0)
      then v_where end;
  end if;
  p_since := case when p_past then p_since else greatest(p_since, v_installed) end;
  if p_past then
    v_where := v_where || format(' and %s < %L::timestamptz', v_created, v_installed);
  end if;
  if p_since > '-infinity' then
    v_where := v_where || format(' and %s >= %L::timestamptz', v_created, p_since);
  end if;
  if p_until is not null then
    v_where := v_where || format(' and (%1$s <= %2$L::timestamptz or %1$s > now() + interval ''1 day'')', v_created,
      p_until);
  end if;
  return v_where;
end $$;

-- The SQL condition for rows (alias `g`) without a creation time, which are all rows of a table without such a column.
-- Null if they are not among the young (`p_past` false) or the old ones.
create or replace function public.outlast_undated_where(
  p_binding text, p_past boolean, p_since timestamptz, p_until timestamptz
) returns text language plpgsql stable security definer set search_path = '' as $$
begin
  if p_since is null and p_past = (public.outlast_installed_at(p_binding) > '-infinity')
    and not (p_past and p_until is not null)
  then
    return (select coalesce('g.' || quote_ident(g.created_name) || ' is null', 'true')
      from public.outlast_bound(p_binding) g);
  end if;
  return null;
end $$;

-- The SQL condition for noted rows (alias `g`) that are not young and whose id is after `p_after`. It uses the index of
-- the id column, and a noted id that the column's type cannot hold any more is ignored.
create or replace function public.outlast_late_where(p_binding text, p_after text) returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  g record;
begin
  select * into g from public.outlast_bound(p_binding);
  if public.outlast_installed_at(p_binding) = '-infinity' then
    return null;  -- all rows are young
  end if;
  return format('g.%I%s in (select %s from public.outlast_late_rows l where l.binding = %L and l.generation_id > %L'
    ' collate "C")%s',
    g.id_name, case when g.id_type in ('uuid', 'bigint', 'integer') then '' else '::text' end,
    case when g.id_type = 'uuid' then 'public.outlast_uuid(l.generation_id)'
      when g.id_type in ('bigint', 'integer')
        then 'case when l.generation_id ~ ''^-?[0-9]{1,18}$'' then l.generation_id::bigint end'
      else 'l.generation_id' end, p_binding, p_after, case when public.outlast_created_is_time(p_binding)
      then format(' and (g.%I >= %L::timestamptz) is not true', g.created_name, public.outlast_installed_at(p_binding))
      else '' end);
end $$;

revoke all on function public.outlast_created_is_time(text), public.outlast_installed_at(text),
  public.outlast_note_installation(text, regclass), public.outlast_note_late_row(text, timestamptz, text, text, boolean),
  public.outlast_forget_late_rows(), public.outlast_age_where(text, boolean, timestamptz, timestamptz),
  public.outlast_undated_where(text, boolean, timestamptz, timestamptz), public.outlast_late_where(text, text)
  from public, anon, authenticated, service_role;
