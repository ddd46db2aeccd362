-- Outlast: whether a table fits its binding, what its triggers ask, and removing a binding.

select public.outlast_start_change();

-- Why no row can have this status; null if one can: the column's type or a check constraint refuses it. Constraints on
-- several columns are not judged.
create or replace function public.outlast_status_problem(p_table regclass, p_column text, p_value text) returns text
language plpgsql stable security definer set search_path = '' as $$
declare
  a record;
  c record;
  v_fits boolean := false;
begin
  select attnum, format_type(atttypid, atttypmod) as type, atttypid into a
    from pg_attribute where attrelid = p_table and attname = p_column and not attisdropped;
  begin
    execute format('select (%1$L::%2$s)::text = %1$L', p_value, a.type) into v_fits;
  exception when others then  -- the type refuses the value
    v_fits := false;
  end;
  if v_fits is not true then
    return format('the column %I has the type %s', p_column, a.type) || coalesce((
      select ', whose values are: ' || string_agg(e.enumlabel, ', ' order by e.enumsortorder)
      from pg_enum e where e.enumtypid = a.atttypid), '');
  end if;
  for c in select conname, pg_get_expr(conbin, conrelid) as condition from pg_constraint
      where conrelid = p_table and contype = 'c' and conkey = array[a.attnum] loop
    begin
      execute format('select (%s) is not false from (select %L::%s as %I) t', c.condition, p_value, a.type, p_column)
        into v_fits;
    exception when others then
      v_fits := true;  -- the condition needs more than this column
    end;
    if not v_fits then
      return format('the constraint %I requires %s', c.conname, c.condition);
    end if;
  end loop;
  return null;
end $$;

-- The type of a column: of a domain, the type it is over.
create or replace function public.outlast_type(p_type oid) returns regtype
language sql stable security definer set search_path = '' as $$
  select coalesce(nullif(t.typbasetype, 0), t.oid)::regtype from pg_type t where t.oid = p_type
$$;

-- Whether Outlast may write an existing column: it is empty, Outlast added it, or has a trigger for it already. A column
-- of the application's own is never overwritten.
create or replace function public.outlast_may_take(p_table regclass, p_column text) returns boolean
language plpgsql stable security definer set search_path = '' as $$
declare
  v_used boolean;
begin
  if exists (select from pg_attribute where attrelid = p_table and attname = p_column
      and col_description(attrelid, attnum) like 'Outlast%') then
    return true;
  elsif exists (select from pg_trigger where tgrelid = p_table and tgfoid = 'public.outlast_keep_media'::regproc) then
    if exists (select from pg_trigger where tgrelid = p_table and tgfoid = 'public.outlast_keep_media'::regproc
        and case tgnargs when 0 then p_column in ('media', 'media_status')
          else encode(convert_to(p_column, 'UTF8'), 'escape') = any (string_to_array(encode(tgargs, 'escape'), '\000')) end)
    then
      return true;
    end if;
  elsif p_column in ('media', 'media_status') and exists (
      select from pg_trigger where tgrelid = p_table and tgfoid = 'public.outlast_notify'::regproc) then
    return true;  -- bound by the first version, which did not mark its columns
  end if;
  execute format('select exists (select from %1$s where %2$I::text not in ('''', ''[]'', ''{}'', ''null''))',
                 p_table, p_column) into v_used;
  return not v_used;
end $$;

-- Raises an error, with the option of `outlast init` to correct, if the table does not fit the binding.
create or replace function public.outlast_check_binding(p_binding text) returns void
language plpgsql stable security definer set search_path = '' as $$
declare
  b public.outlast_bindings;
  g record;
  c record;
  v_problem text;
begin
  select * into b from public.outlast_bindings where name = p_binding;
  select * into g from public.outlast_bound(p_binding);
  if (select relkind in ('r', 'p') from pg_class where oid = g.rel) is not true then
    raise exception 'there is no table %', format('%I.%I', b.schema, b."table") using errcode = 'undefined_table',
      hint = 'Create the table, or name another one, for a view the one it reads: outlast init --table.';
  end if;
  select string_agg(w.key || ' = ' || w.value, ', ') into v_problem from (
      select * from (values ('id_column', b.id_column), ('status_column', b.status_column),
        ('created_column', b.created_column), ('deleted_column', b.deleted_column), ('error_column', b.error_column),
        ('owner', case when b.owner_table is not null then b.owner_column end)) as v (key, value)
      union all select 'output_column', o from unnest(b.output_columns) o
    ) as w (key, value)
    where w.value is not null and not exists (
      select from pg_attribute a where a.attrelid = g.rel and a.attname = w.value and not a.attisdropped);
  if v_problem is not null then
    raise exception '% lacks a column: %', g.rel, v_problem using errcode = 'undefined_column',
      hint = 'Add the column, or name another one, or "none": see outlast init --help.';
  end if;
  if b.owner_table is not null and (select count(*) from pg_attribute
      where attrelid = to_regclass(format('%I.%I', b.owner_schema, b.owner_table))
        and attname in (b.owner_key, b.owner_value) and not attisdropped)
      < (select count(distinct n) from unnest(array[b.owner_key, b.owner_value]) n) then
    raise exception 'there is no table %.% with the columns % and %', b.owner_schema, b.owner_table, b.owner_key,
      b.owner_value using errcode = 'undefined_table', hint = 'Correct the option --owner of outlast init.';
  end if;
  select format('no row of %s can have the status %L: %s', g.rel, v, p) into v_problem
    from unnest(b.completed_values) v, public.outlast_status_problem(g.rel, b.status_column, v) p
    where p is not null limit 1;
  if v_problem is not null then
    raise exception '%', v_problem using errcode = 'invalid_parameter_value',
      hint = 'Name the status of completed rows: outlast init --completed-value.';
  end if;
  for c in select v.name, v.type, v.option, a.atttypid, a.attgenerated from (values
        (b.media_column, 'jsonb', '--media-column'), (b.media_status_column, 'text', '--media-status-column')
      ) as v (name, type, option) join pg_attribute a on a.attrelid = g.rel and a.attname = v.name
      where not a.attisdropped loop
    if c.atttypid not in (c.type::regtype, case c.type when 'text' then 'varchar' else c.type end::regtype)
        or c.attgenerated <> '' then
      raise exception '% has a column % that is generated or not %', g.rel, c.name, c.type using errcode = 'datatype_mismatch',
        hint = format('Name another column, or "none": outlast init %s.', c.option);
    elsif not public.outlast_may_take(g.rel, c.name) then
      raise exception '% has a column % of its own, which Outlast does not overwrite', g.rel, c.name
        using errcode = 'duplicate_column', hint = format('Name another column, or "none": outlast init %s.', c.option);
    end if;
  end loop;
end $$;

-- The arguments of the triggers of a binding: its name, and SQL for a row, `$1`, and its old version, `$2`: whether an
-- event is due after its insert; after its update, and whether that has made it a deleted row; its id, and its creation
-- time if known; its event. record_image_ne compares also json.
create or replace function public.outlast_notify_arguments(p_binding text) returns text[]
language plpgsql stable security definer set search_path = '' as $$
declare
  b public.outlast_bindings;
  g record;
  v_new text;
  v_old text;
  v_gone text := '';
begin
  select * into b from public.outlast_bindings where name = p_binding;
  select * into g from public.outlast_bound(p_binding);
  v_new := public.outlast_done_sql('($1)', b.status_column, b.completed_values, b.output_columns);
  v_old := public.outlast_done_sql('($2)', b.status_column, b.completed_values, b.output_columns);
  if b.deleted_column is not null then
    v_gone := ', (select ' || g.deleted_sql || ' from (select ($1).*) g) and not (select ' || g.deleted_sql
      || ' from (select ($2).*) g)';
    v_new := v_new || ' and not (select ' || g.deleted_sql || ' from (select ($1).*) g)';
    v_old := v_old || ' and not (select ' || g.deleted_sql || ' from (select ($2).*) g)';
  end if;
  return (select array[b.name, v_new,
    format('%s and ((%s) is not true or record_image_ne(row(%s), row(%s)))%s', v_new, v_old,
      string_agg(format('($2).%I', c), ', '), string_agg(format('($1).%I', c), ', '), v_gone),
    format('($1).%I::text, %s', b.id_column, case when public.outlast_created_is_time(p_binding)
      then format('($1).%I::text', b.created_column) else 'null' end),
    format('jsonb_build_object(''generation_id'', ($1).%I::text, ''user_id'', %s, ''request_id'', %s, ''outputs'','
      ' jsonb_build_array(%s))', b.id_column, case when b.owner_table is null
        then coalesce('($1).' || quote_ident(g.owner_name) || '::text', 'null')
        else '(select ' || g.owner_sql || ' from (select ($1).*) g)' end,
      coalesce('($1).' || quote_ident(g.request_name) || '::text', 'null'),
      string_agg(format('jsonb_build_object(''field'', %L, ''value'', to_jsonb(($1).%I))', c, c), ', '))]
    from unnest(b.output_columns) c);
end $$;

-- Removes a binding: its triggers, its index and the columns that Outlast added. The records of its files stay, so that
-- the table can be bound again.
create or replace function public.outlast_unbind(p_binding text) returns void
language plpgsql security definer set search_path = '' as $$
declare
  g record;
  c record;
begin
  perform public.outlast_start_change();
  select * into g from public.outlast_bound(p_binding);
  if g.binding is null then
    raise exception 'there is no binding %', p_binding using errcode = 'undefined_object';
  end if;
  perform public.outlast_lock_tables(g.rel);
  delete from public.outlast_bindings where name = p_binding;
  delete from public.outlast_rejected_rows where binding = p_binding;
  delete from public.outlast_written_urls where binding = p_binding;
  delete from public.outlast_late_rows where binding = p_binding;
  perform public.outlast_drop_unbound();
  for c in select attname as name, col_description(attrelid, attnum) as comment from pg_attribute
      where attrelid = g.rel and attname in (g.media_name, g.media_status_name) and not attisdropped loop
    if c.comment like 'Outlast: %' then
      execute format('alter table %s drop column %I', g.rel, c.name);
    elsif c.comment like 'Outlast %' then
      execute format('comment on column %s.%I is null', g.rel, c.name);
    end if;
  end loop;
end $$;

-- The owner of the table runs outlast_unbind in the SQL editor. No role may call it over REST.
revoke all on function public.outlast_type(oid), public.outlast_status_problem(regclass, text, text),
  public.outlast_may_take(regclass, text),
  public.outlast_notify_arguments(text),
  public.outlast_check_binding(text), public.outlast_unbind(text) from public, anon, authenticated, service_role;
